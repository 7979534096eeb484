package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/keepalive"
	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/bench/internal/process"
)

const (
	floodCommand     = "flood"
	floodConnections = 4
)

// floodRoutes are a site whose sessions have keys.
const floodRoutes = `
	session {
		rqlite http://{STORE}
		keys a-secret-for-this-measurement-and-no-other
	}
	handle /login {
		session_edit put user alice
		respond 204
	}
	handle {
		respond "{http.session.data.user}."
	}`

// floods are what the member reads among.
var floods = []struct{ name, kind string }{
	{"alone", ""},
	{"among requests without a cookie", "none"},
	{"among forged cookies", "forged"},
}

// measureFlood times a member who reads while others send requests as fast as
// they can. The others have the lowest priority, as their machines are not the
// server's.
func measureFlood(dir string) error {
	addr, stop, err := startSite(dir, floodRoutes, 0)
	if err != nil {
		return err
	}
	defer stop()
	conn := keepalive.NewConn(addr)
	defer conn.Close()
	cookie, err := login(conn)
	if err != nil {
		return err
	}
	get := keepalive.Get("/", cookie)
	member := measure.Side{Op: func(int, int) error {
		res, err := conn.Do(get)
		if err == nil && string(res.Body) != "alice." {
			err = fmt.Errorf("the member got %d %q", res.Status, res.Body)
		}
		return err
	}}
	measure.Run(member, 1, time.Second)
	results := make([]measure.Result, len(floods))
	sent := make([][]float64, len(floods))
	for n := range *rounds {
		for i := range floods {
			k := (i + n) % len(floods)
			sample, others, err := among(floods[k].kind, addr, cookie, member)
			if err != nil {
				return err
			}
			results[k].Samples = append(results[k].Samples, sample)
			sent[k] = append(sent[k], float64(others)/round.Seconds())
		}
	}
	fmt.Println("| a member reads | others a second | p50 | p99 | p99 to alone |\n| --- | ---: | ---: | ---: | ---: |")
	for i, r := range results {
		if r.Errors() > 0 {
			return fmt.Errorf("%d of the member's requests failed", r.Errors())
		}
		fmt.Printf("| %s | %.0f | %v | %v | %.2f x |\n", floods[i].name, measure.Median(sent[i]),
			rounded(r.Median(measure.P50)), rounded(r.Median(measure.P99)), r.Ratio(results[0], measure.P99))
	}
	return nil
}

func rounded(nanoseconds float64) time.Duration {
	return time.Duration(nanoseconds).Round(10 * time.Microsecond)
}

// among lets the member read in a flood, and returns how many requests that had.
func among(kind, addr, cookie string, member measure.Side) (measure.Sample, int, error) {
	if kind == "" {
		return measure.Run(member, 1, *round), 0, nil
	}
	cmd, err := process.Again(floodCommand, addr, kind, cookie)
	if err != nil {
		return measure.Sample{}, 0, err
	}
	cmd = exec.Command("nice", append([]string{"-n", "19"}, cmd.Args...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return measure.Sample{}, 0, fmt.Errorf("make pipe: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return measure.Sample{}, 0, fmt.Errorf("make pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return measure.Sample{}, 0, fmt.Errorf("start flood: %w", err)
	}
	said := bufio.NewReader(stdout)
	var before, after int
	if _, err := fmt.Fscanln(said, &before); err != nil {
		return measure.Sample{}, 0, fmt.Errorf("flood has not begun: %w", errors.Join(err, cmd.Wait()))
	}
	sample := measure.Run(member, 1, *round)
	_ = stdin.Close() // that ends it
	_, err = fmt.Fscanln(said, &after)
	return sample, after - before, errors.Join(err, cmd.Wait())
}

// sendFlood is the process of a flood. It says how many requests it has sent when
// it has begun, and again when standard input ends.
func sendFlood(args []string) error {
	if len(args) != 3 {
		return errors.New("a flood wants an address, a kind and a cookie")
	}
	addr, kind, cookie := args[0], args[1], args[2]
	var sent atomic.Int64
	var all sync.WaitGroup
	ended := make(chan struct{})
	failed := make(chan error, floodConnections)
	begun := sync.OnceFunc(func() { fmt.Println(sent.Load()) })
	for range floodConnections {
		all.Go(func() { failed <- flood(addr, kind, cookie, &sent, begun, ended) })
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println(sent.Load())
	close(ended)
	all.Wait()
	var errs []error
	for range floodConnections {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

func flood(addr, kind, cookie string, sent *atomic.Int64, begun func(), ended <-chan struct{}) error {
	conn := keepalive.NewConn(addr)
	defer conn.Close()
	next := keepalive.Get("/", "")
	for {
		select {
		case <-ended:
			return nil
		default:
		}
		if kind == "forged" {
			next = keepalive.Get("/", forge(cookie))
		}
		res, err := conn.Do(next)
		if err != nil {
			return err
		}
		if string(res.Body) != "." || bytes.Contains(res.Header, []byte("Set-Cookie")) {
			return fmt.Errorf("a guest got %d %q", res.Status, res.Body)
		}
		if sent.Add(1) > 200 {
			begun()
		}
	}
}

// forge makes a cookie under the same key as a genuine one: its first 4 bytes
// name the key, the others are the token and the tag.
func forge(genuine string) string {
	name, value, _ := strings.Cut(genuine, "=")
	raw, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(raw) < 5 {
		panic("the genuine cookie is not signed")
	}
	_, _ = rand.Read(raw[4:]) // it does not fail
	return name + "=" + base64.RawURLEncoding.EncodeToString(raw)
}
