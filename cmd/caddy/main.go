// Command caddy is Caddy with the session plugin compiled in.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-session/caddy-session"
)

func main() { caddycmd.Main() }
