package caddysession

import (
	"strconv"

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

func (l *ClientLimit) unmarshal(d *caddyfile.Dispenser) error {
	var sessions, per string
	if !d.AllArgs(&sessions, &per) {
		return d.Err("max_new_per_client takes a number of sessions and a duration: max_new_per_client 20 1h")
	}
	var err error
	if l.Sessions, err = strconv.Atoi(sessions); err != nil || l.Sessions < 1 {
		return d.Errf("max_new_per_client must be a positive number of sessions, not %q", sessions)
	}
	duration, err := caddy.ParseDuration(per)
	if err != nil {
		return d.Errf("max_new_per_client takes a duration like 1h behind the number, not %q", per)
	}
	if duration <= 0 {
		return d.Errf("max_new_per_client must be for a positive duration, not %v", duration)
	}
	l.Per = caddy.Duration(duration)
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
