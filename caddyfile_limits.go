package caddysession

import (
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseCount reads a positive number.
func parseCount(d *caddyfile.Dispenser, to *int) error {
	option, value := d.Val(), ""
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
	option, sessions, per := d.Val(), "", ""
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

func (l *PrincipalLimit) unmarshal(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.Err("max_per_principal takes a number, and oldest or reject")
	}
	var err error
	if l.Max, err = strconv.Atoi(args[0]); err != nil || l.Max < 1 {
		return d.Errf("max_per_principal takes a number from 1 on, not %q", args[0])
	}
	if len(args) == 1 {
		return nil
	}
	l.Policy = args[1]
	return here(d, checkChoice("policy of max_per_principal", l.Policy, limitPolicies))
}
