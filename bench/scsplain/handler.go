// Package scsplain is sessions in Caddy the plain way: scs's own LoadAndSave as
// a handler, over a store that scs has. It is what `session` is measured
// against, not something to use: see the package caddysession for what
// LoadAndSave gets wrong in a proxy.
package scsplain

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/alexedwards/scs/redisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gomodule/redigo/redis"
)

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective("scs_plain", parse)
	httpcaddyfile.RegisterDirectiveOrder("scs_plain", httpcaddyfile.Before, "basic_auth")
}

// Handler does one thing with the session of the request.
type Handler struct {
	// What is done: none, login, read, write or count.
	Do string `json:"do"`

	// The address of a Redis. Without it sessions are kept in memory.
	Redis string `json:"redis,omitempty"`

	// The values that login puts.
	Values map[string]string `json:"values,omitempty"`

	manager *scs.SessionManager
	act     func(r *http.Request)
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.scs_plain",
		New: func() caddy.Module { return new(Handler) },
	}
}

// userHeader is the request header that shows the upstream a value.
const userHeader = "X-User"

// Provision prepares what is done.
func (h *Handler) Provision(caddy.Context) error {
	h.manager = managerOf(h.Redis)
	switch h.Do {
	case "none":
		h.act = func(*http.Request) {}
	case "login":
		h.act = func(r *http.Request) {
			for key, value := range h.Values {
				h.manager.Put(r.Context(), key, value)
			}
		}
	case "read":
		h.act = func(r *http.Request) { r.Header.Set(userHeader, h.manager.GetString(r.Context(), "user")) }
	case "write":
		h.act = func(r *http.Request) {
			h.manager.Put(r.Context(), "n", h.manager.GetInt(r.Context(), "n")+1)
		}
	case "count":
		h.act = func(r *http.Request) {
			r.Header.Set(userHeader, strconv.Itoa(h.manager.GetInt(r.Context(), "n")))
		}
	default:
		return fmt.Errorf("scs_plain cannot %q", h.Do)
	}
	return nil
}

// ServeHTTP does it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (err error) {
	h.manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.act(r)
		err = next.ServeHTTP(w, r)
	})).ServeHTTP(w, r)
	return err
}

// managers are shared by all handlers with the same store.
var managers struct {
	sync.Mutex
	of map[string]*scs.SessionManager
}

func managerOf(addr string) *scs.SessionManager {
	managers.Lock()
	defer managers.Unlock()
	if m := managers.of[addr]; m != nil {
		return m
	}
	m := scs.New()
	m.Lifetime = 24 * time.Hour
	m.Store = memstore.New()
	if addr != "" {
		m.Store = redisstore.New(&redis.Pool{
			MaxIdle: 128, MaxActive: 128, Wait: true,
			Dial: func() (redis.Conn, error) { return redis.Dial("tcp", addr) },
		})
	}
	if managers.of == nil {
		managers.of = make(map[string]*scs.SessionManager)
	}
	managers.of[addr] = m
	return m
}

// parse reads
//
//	scs_plain <none|login|read|write|count> [<redis address>] {
//	    <key> <value>
//	}
func parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	m := &Handler{Values: make(map[string]string)}
	h.Next()
	if !h.Args(&m.Do) {
		return nil, h.ArgErr()
	}
	h.Args(&m.Redis)
	for h.NextBlock(0) {
		key := h.Val()
		var value string
		if !h.Args(&value) {
			return nil, h.ArgErr()
		}
		m.Values[key] = value
	}
	return m, nil
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
