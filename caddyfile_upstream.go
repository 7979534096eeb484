package caddysession

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func (c *UpstreamConfig) unmarshal(d *caddyfile.Dispenser) error {
	start := d.Token()
	if err := noArgs(d); err != nil {
		return err
	}
	if err := eachOption(d, d.Nesting(), c.option, "header"); err != nil {
		return err
	}
	return at(start, c.check())
}

func (c *UpstreamConfig) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "send":
		if c.Send = d.RemainingArgs(); len(c.Send) == 0 {
			return d.Err("send takes the keys to send, or * for all")
		}
		return nil
	case "header":
		var key, name string
		if !d.AllArgs(&key, &name) {
			return d.Err("header takes a key of the session and the name of the header")
		}
		if len(key) > 2 && strings.EqualFold(key[:2], "X-") {
			return d.Errf("header takes the key first: header %s %s", name, key)
		}
		if c.Headers == nil {
			c.Headers = make(map[string]string)
		}
		if _, twice := c.Headers[name]; twice {
			return d.Errf("header %s is given twice", name)
		}
		c.Headers[name] = key
		return nil
	case "accept":
		c.Accept = true
		return noArgs(d)
	}
	return unknownOption(d, "upstream", option, upstreamOptions)
}
