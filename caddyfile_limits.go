package caddysession

import (
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseCount reads a positive number.
func parseCount(d *caddyfile.Dispenser, to *int) error {
	var option, value string
	option = d.Val()
	if err := parseString(d, &value); err != nil {
		return err
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return d.Errf("%s must be a positive number, not %q", option, value)
	}
	*to = n
	return nil
}

// parseClientLimit reads how many sessions a client may begin in how long.
func parseClientLimit(d *caddyfile.Dispenser, to **ClientLimit) error {
	var option, sessions, per string
	option = d.Val()
	if !d.AllArgs(&sessions, &per) {
		return d.Errf("%s takes a number of sessions and a duration: %s 20 1h", option, option)
	}
	n, err := strconv.Atoi(sessions)
	if err != nil || n < 1 {
		return d.Errf("%s must be a positive number of sessions, not %q", option, sessions)
	}
	duration, err := caddy.ParseDuration(per)
	if err != nil {
		return d.Errf("%s takes a duration like 1h behind the number, not %q", option, per)
	}
	if duration <= 0 {
		return d.Errf("%s must be for a positive duration, not %v", option, time.Duration(duration))
	}
	*to = &ClientLimit{Sessions: n, Per: caddy.Duration(duration)}
	return nil
}
