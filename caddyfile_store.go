package caddysession

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func (c *StoreConfig) option(d *caddyfile.Dispenser, option string) error {
	start := d.Token()
	var err error
	switch option {
	case "rqlite":
		c.Rqlite = new(RqliteConfig)
		err = c.Rqlite.unmarshal(d)
	case "embedded":
		c.Embedded = new(EmbeddedConfig)
		err = c.Embedded.unmarshal(d)
	case "table":
		err = parseString(d, &c.Table)
	case "cleanup_interval":
		return c.parseCleanup(d)
	case "max_calls":
		err = parseCount(d, &c.MaxCalls)
	}
	if err != nil {
		return err
	}
	return at(start, c.check())
}

// parseCleanup is the one duration that may be 0.
func (c *StoreConfig) parseCleanup(d *caddyfile.Dispenser) error {
	var value string
	if err := parseString(d, &value); err != nil {
		return err
	}
	interval, err := caddy.ParseDuration(value)
	if err != nil || interval < 0 {
		return d.Errf("cleanup_interval must be a duration like 5m, or 0 to turn it off, not %q", value)
	}
	c.CleanupInterval = (*caddy.Duration)(&interval)
	return nil
}

func (c *RqliteConfig) unmarshal(d *caddyfile.Dispenser) error {
	c.Addresses = d.RemainingArgs()
	return eachOption(d, d.Nesting(), c.option)
}

func (c *RqliteConfig) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "username":
		return parseString(d, &c.Username)
	case "password":
		if parseString(d, &c.Password) != nil { // whose error has a part of it
			return d.Err("password takes one word: put it into quotes, or better write {env.NAME} or {file.PATH}")
		}
		return nil
	case "tls_ca":
		return parseString(d, &c.TLSCA)
	case "tls_cert":
		if !d.AllArgs(&c.TLSCertificate, &c.TLSKey) {
			return d.Err("tls_cert takes two files: the certificate and its key")
		}
		return nil
	case "tls_insecure_skip_verify":
		c.TLSInsecureSkipVerify = true
		return noArgs(d)
	case "consistency":
		return parseChoice(d, &c.Consistency, consistencyLevels)
	case "timeout":
		return parseDuration(d, &c.Timeout)
	}
	return unknownOption(d, "rqlite <url>...", option, rqliteOptions)
}

func (c *EmbeddedConfig) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		c.File = d.Val()
	}
	if err := noArgs(d); err != nil {
		return err
	}
	return eachOption(d, d.Nesting(), func(d *caddyfile.Dispenser, option string) error {
		if option != "synchronous" {
			return unknownOption(d, "embedded <file>", option, embeddedOptions)
		}
		return parseChoice(d, &c.Synchronous, synchronousModes)
	})
}

func (c *KeysConfig) unmarshal(d *caddyfile.Dispenser) error {
	start := d.Token()
	c.Secrets = d.RemainingArgs()
	err := eachOption(d, d.Nesting(), func(d *caddyfile.Dispenser, option string) error {
		if len(c.Secrets) == 0 { // what stands here may be one
			return d.Err("the secrets stand behind keys, on its line")
		}
		if option != "plain_until" {
			return unknownOption(d, "keys", option, keysOptions)
		}
		return parseTime(d, &c.PlainUntil)
	})
	if err != nil {
		return err
	}
	return at(start, c.check())
}
