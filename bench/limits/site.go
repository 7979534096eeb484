package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/keepalive"
	"github.com/caddy-session/caddy-session/bench/internal/site"
)

// startSite starts a Caddy with these routes, and its store before it, which takes
// a time for every request.
func startSite(dir, routes string, latency time.Duration) (addr string, stop func(), err error) {
	store, storeAddr, err := startStore(dir, latency)
	if err != nil {
		return "", nil, err
	}
	caddy, addr, _, err := site.Start(dir, "caddy", strings.ReplaceAll(routes, "{STORE}", storeAddr))
	if err != nil {
		store.Stop()
		return "", nil, err
	}
	return addr, func() {
		caddy.Stop()
		store.Stop()
	}, nil
}

// login returns the cookie of a session that begins.
func login(conn *keepalive.Conn) (cookie string, err error) {
	res, err := conn.Do(keepalive.Get("/login", ""))
	if err != nil {
		return "", err
	}
	cookie, ok := res.Cookie()
	if !ok {
		return "", fmt.Errorf("the login was answered with %d", res.Status)
	}
	return cookie, nil
}
