package caddysession

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// An error that lists the options of a block lists those that it takes.
func TestOptions_thatErrorsNameAreTaken(t *testing.T) {
	for block, test := range map[string]struct {
		options []string
		read    func(d *caddyfile.Dispenser, option string) error
	}{
		"session":  {sessionOptions, new(Handler).option},
		"cookie":   {cookieOptions, new(CookieConfig).option},
		"rqlite":   {rqliteOptions, new(RqliteConfig).option},
		"upstream": {upstreamOptions, new(UpstreamConfig).option},
	} {
		for _, option := range append(test.options, "no_such_option") {
			d := caddyfile.NewTestDispenser(option)
			d.Next()
			err := test.read(d, option)
			if unknown := err != nil && strings.Contains(err.Error(), "unknown option"); unknown != (option == "no_such_option") {
				t.Errorf("%s %s: %v", block, option, err)
			}
		}
	}
	for _, operation := range editOperations {
		d := caddyfile.NewTestDispenser(operation)
		d.Next()
		if err := new(Edit).operation(d); err != nil && strings.Contains(err.Error(), "unknown operation") {
			t.Errorf("session_edit %s: %v", operation, err)
		}
	}
}
