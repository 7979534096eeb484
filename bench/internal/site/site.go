// Package site runs a real Caddy with the plugin in a process of its own: the
// program that measures, started once more.
package site

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // Caddy's own modules

	_ "github.com/caddy-session/caddy-session"                // what is measured
	_ "github.com/caddy-session/caddy-session/bench/scsplain" // what it is measured against

	"github.com/caddy-session/caddy-session/bench/internal/process"
)

// Command is the first argument of the program when it is to be a Caddy; the
// second one is for [Serve].
const Command = "caddy"

// Serve runs Caddy with a Caddyfile until standard input ends.
func Serve(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read Caddyfile: %w", err)
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": file})
	if err != nil {
		return fmt.Errorf("adapt Caddyfile: %w", err)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("load config: %w", err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the process that started this one
	return caddy.Stop()
}

// Start starts a Caddy process with these routes and returns the addresses
// of its server and of its admin endpoint.
func Start(dir, name, routes string) (p *process.Process, addr, admin string, err error) {
	if addr, err = process.FreeAddr(); err != nil {
		return nil, "", "", err
	}
	if admin, err = process.FreeAddr(); err != nil {
		return nil, "", "", err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, "", "", fmt.Errorf("read address: %w", err)
	}
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", "", fmt.Errorf("make directory: %w", err)
	}
	file := filepath.Join(dir, "Caddyfile")
	text := strings.NewReplacer("{ADMIN}", admin, "{PORT}", port, "{ROUTES}", strings.ReplaceAll(routes, "{DIR}", dir)).Replace(caddyfile)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, "", "", fmt.Errorf("write Caddyfile: %w", err)
	}
	cmd, err := process.Again(Command, file)
	if err != nil {
		return nil, "", "", err
	}
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, "", "", fmt.Errorf("make pipe: %w", err)
	}
	p, err = process.Listener(cmd, addr)
	return p, addr, admin, err
}

// caddyfile has the same server for every side. The pool to the upstream is as
// large as the load, so that no side dials while it is measured.
const caddyfile = `{
	admin {ADMIN}
	auto_https off
	persist_config off
	log {
		level ERROR
	}
	servers {
		timeouts {
			idle 1h
		}
	}
}

(upstream) {
	transport http {
		keepalive_idle_conns 1024
		keepalive_idle_conns_per_host 1024
	}
}

http://:{PORT} {
	bind 127.0.0.1
{ROUTES}
}
`
