package caddysession

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"
)

// nextToken consumes the directive's name and returns it, for errors about the whole of it.
func nextToken(d *caddyfile.Dispenser) caddyfile.Token {
	d.Next()
	return d.Token()
}

// at adds the place of a token to an error, if there is one.
func at(token caddyfile.Token, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w, at %s:%d", err, token.File, token.Line)
}

// here is at for the token at hand.
func here(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(err)
}

// eachOption reads the options of a block, each of which may stand there once,
// but for those that are named as repeatable.
func eachOption(d *caddyfile.Dispenser, nesting int, read func(d *caddyfile.Dispenser, option string) error, repeatable ...string) error {
	seen := make(map[string]bool)
	before := ""
	for d.NextBlock(nesting) {
		option := d.Val()
		if option == "{" {
			return noBlock(d, before)
		}
		before = option
		if seen[option] && !slices.Contains(repeatable, option) {
			return d.Errf("%s is given twice", option)
		}
		seen[option] = true
		if err := read(d, option); err != nil {
			return err
		}
	}
	return nil
}

// noBlock is the error for a block behind what takes none.
func noBlock(d *caddyfile.Dispenser, option string) error {
	return d.Errf("%s takes no block", option)
}

// unknownOption is the error for an option that a block does not have. A secret or
// an address that went on to the next line looks like one, and is not repeated.
func unknownOption(d *caddyfile.Dispenser, block, option string, options []string) error {
	switch {
	case strings.Contains(option, "://"):
		return d.Err("addresses stand on the line of their option: those of the nodes behind rqlite, origins behind cross_origin")
	case len(option) >= minSecret:
		return d.Errf("unknown option of %s, which takes %s; secrets stand behind keys, all on its line", block, strings.Join(options, ", "))
	}
	return d.Errf("unknown option %q of %s, which takes %s", option, block, strings.Join(options, ", "))
}

var shortForms = sync.OnceValue(httpcaddyfile.NewShorthandReplacer)

// longForm replaces the short forms of placeholders that there are in Caddyfiles,
// like {header.User-Agent}: Caddy does so in sites, and not in global options.
func longForm(text string) string {
	segment := caddyfile.Segment{{Text: text}}
	shortForms().ApplyToSegment(&segment)
	return segment[0].Text
}

func noArgs(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	return nil
}

func parseString(d *caddyfile.Dispenser, to *string) error {
	if !d.AllArgs(to) || *to == "" {
		return d.ArgErr()
	}
	return nil
}

func parseChoice(d *caddyfile.Dispenser, to *string, choices []string) error {
	option := d.Val()
	if parseString(d, to) != nil {
		return d.Errf("%s takes one of %s", option, strings.Join(choices, ", "))
	}
	return here(d, checkChoice(option, *to, choices))
}

func parseDuration(d *caddyfile.Dispenser, to *caddy.Duration) error {
	option, value := d.Val(), ""
	if parseString(d, &value) != nil {
		return d.Errf("%s takes one duration like 30m, 24h or 7d", option)
	}
	duration, err := caddy.ParseDuration(value)
	if err != nil {
		return d.Errf("%s must be a duration like 30m, 24h or 7d, not %q", option, value)
	}
	if duration <= 0 {
		return d.Errf("%s must be a positive duration, not %v", option, time.Duration(duration))
	}
	*to = caddy.Duration(duration)
	return nil
}

func parseSwitch(d *caddyfile.Dispenser, to **bool) error {
	option, value := d.Val(), ""
	if parseString(d, &value) != nil || value != "on" && value != "off" {
		return d.Errf("%s takes on or off", option)
	}
	*to = new(value == "on")
	return nil
}

func parseSize(d *caddyfile.Dispenser, to *int64) error {
	option, value := d.Val(), ""
	if parseString(d, &value) != nil {
		return d.Errf("%s takes one size like 64KiB", option)
	}
	size, err := humanize.ParseBytes(value)
	if err != nil || size == 0 || size > math.MaxInt64 {
		return d.Errf("%s must be a size like 64KiB, not %q", option, value)
	}
	*to = int64(size)
	return nil
}

// parseTime reads a point in time: RFC 3339, or a day, which begins at midnight UTC.
func parseTime(d *caddyfile.Dispenser, to **time.Time) error {
	option, value := d.Val(), ""
	if err := parseString(d, &value); err != nil {
		return err
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, value); err == nil {
			*to = new(t.UTC())
			return nil
		}
	}
	return d.Errf("%s must be a time like 2026-12-31T18:00:00Z or 2026-12-31, not %q", option, value)
}
