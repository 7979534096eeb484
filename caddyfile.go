package caddysession

import (
	"encoding/json"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("session", parseGlobal)
	httpcaddyfile.RegisterHandlerDirective("session", parseSession)
	httpcaddyfile.RegisterDirectiveOrder("session", httpcaddyfile.After, "tracing")
	httpcaddyfile.RegisterHandlerDirective("session_auth", parseAuth)
	httpcaddyfile.RegisterHandlerDirective("session_edit", parseEdit)
	httpcaddyfile.RegisterHandlerDirective("session_csrf", parseCSRF)
	httpcaddyfile.RegisterHandlerDirective("session_devices", parseDevices)
	// Each goes right behind forward_auth, so the last one comes first.
	httpcaddyfile.RegisterDirectiveOrder("session_devices", httpcaddyfile.After, "forward_auth")
	httpcaddyfile.RegisterDirectiveOrder("session_edit", httpcaddyfile.After, "forward_auth")
	httpcaddyfile.RegisterDirectiveOrder("session_csrf", httpcaddyfile.After, "forward_auth")
	httpcaddyfile.RegisterDirectiveOrder("session_auth", httpcaddyfile.After, "forward_auth")
}

// parseGlobal reads the global option: the defaults of every session.
func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	start := nextToken(d)
	if existing != nil {
		return nil, d.Err("the global option session is given twice")
	}
	defaults := new(Handler)
	if err := defaults.unmarshal(d); err != nil {
		return nil, err
	}
	if err := defaults.check(); err != nil {
		return nil, at(start, err)
	}
	return httpcaddyfile.App{Name: "session", Value: caddyconfig.JSON(App{Defaults: defaults}, nil)}, nil
}

func parseSession(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	start := nextToken(helper.Dispenser)
	h := new(Handler)
	if err := h.unmarshal(helper.Dispenser); err != nil {
		return nil, err
	}
	settings := *h
	if global, ok := helper.Option("session").(httpcaddyfile.App); ok {
		var app App
		if err := json.Unmarshal(global.Value, &app); err != nil {
			return nil, err
		}
		settings.inherit(app.Defaults)
	}
	if err := settings.check(); err != nil {
		return nil, at(start, err)
	}
	return h, nil
}

// UnmarshalCaddyfile reads a `session` directive. Syntax:
//
//	session [<matcher>] {
//	    rqlite <url>... {
//	        username <name>
//	        password <secret>
//	        tls_ca   <file>
//	        tls_cert <file> <key>
//	        tls_insecure_skip_verify
//	        consistency none|weak|linearizable|strong
//	        timeout  <duration>
//	    }
//	    embedded [<file>] {
//	        synchronous full|normal
//	    }
//	    table <name>
//	    cleanup_interval <duration>
//	    max_calls <n>
//
//	    cookie [<name>] {
//	        domain    <domain>
//	        path      <path>
//	        same_site lax|strict|none
//	        secure    auto|on|off
//	        http_only on|off
//	        partitioned
//	    }
//	    lifetime          <duration>
//	    idle_timeout      <duration>
//	    touch_interval    <duration>
//	    renew_interval    <duration>
//	    persist           on|off
//	    remember_lifetime <duration>
//	    max_size          <size>
//	    cache             <duration>
//	    principal         <key>
//	    max_per_principal <n> [oldest|reject]
//	    bind              <placeholder>...
//	    track             on|off
//	    on_store_error    fail|anonymous
//	    revalidate        <duration>
//	    max_new_per_client <n> <duration>
//	    cross_origin      deny|allow [<origin>...]
//
//	    keys <secret>... {
//	        plain_until <time>
//	    }
//
//	    upstream {
//	        send   <key>...|*
//	        header <key> <Header-Name>
//	        accept
//	    }
//	}
//
// The global option `session` takes the same block: what it sets is the default
// of every session directive.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	start := nextToken(d)
	if err := h.unmarshal(d); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return at(start, err)
	}
	return nil
}

// unmarshal reads what follows the directive's name.
func (h *Handler) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("session takes a block, not %q: name the store and the cookie in it", d.Val())
	}
	seen := options{}
	for d.NextBlock(0) {
		option := d.Val()
		if err := seen.once(d); err != nil {
			return err
		}
		if err := h.option(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "rqlite", "embedded", "table", "cleanup_interval", "max_calls":
		if h.Store == nil {
			h.Store = new(StoreConfig)
		}
		return h.Store.option(d, option)
	case "cookie":
		h.Cookie = new(CookieConfig)
		return h.Cookie.unmarshal(d)
	case "lifetime":
		return parseDuration(d, &h.Lifetime)
	case "idle_timeout":
		return parseDuration(d, &h.IdleTimeout)
	case "touch_interval":
		return parseDuration(d, &h.TouchInterval)
	case "renew_interval":
		return parseDuration(d, &h.RenewInterval)
	case "remember_lifetime":
		return parseDuration(d, &h.RememberLifetime)
	case "persist":
		return parseSwitch(d, &h.Persist)
	case "max_size":
		return parseSize(d, &h.MaxSize)
	case "cache":
		return parseDuration(d, &h.Cache)
	case "principal":
		return parseString(d, &h.Principal)
	case "max_per_principal":
		h.MaxPerPrincipal = new(PrincipalLimit)
		return h.MaxPerPrincipal.unmarshal(d)
	case "bind":
		if h.Bind = d.RemainingArgs(); len(h.Bind) == 0 {
			return d.Err("bind takes the placeholders that must stay what they were")
		}
		if err := h.checkBind(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	case "track":
		return parseSwitch(d, &h.Track)
	case "on_store_error":
		return parseChoice(d, &h.OnStoreError, outagePolicies)
	case "revalidate":
		return parseDuration(d, &h.Revalidate)
	case "keys":
		h.Keys = new(KeysConfig)
		return h.Keys.unmarshal(d)
	case "max_new_per_client":
		return parseClientLimit(d, &h.MaxNewPerClient)
	case "cross_origin":
		h.CrossOrigin = new(CrossOriginConfig)
		return h.CrossOrigin.unmarshal(d)
	case "upstream":
		h.Upstream = new(UpstreamConfig)
		return h.Upstream.unmarshal(d)
	}
	return d.Errf("unknown option %q of session", option)
}

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
	if err := c.check(); err != nil {
		return at(start, err)
	}
	return nil
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
	seen := options{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if err := seen.once(d); err != nil {
			return err
		}
		if err := c.option(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (c *RqliteConfig) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "username":
		return parseString(d, &c.Username)
	case "password":
		return parseString(d, &c.Password)
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
	return d.Errf("unknown option %q of rqlite", option)
}

func (c *EmbeddedConfig) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		c.File = d.Val()
	}
	if err := noArgs(d); err != nil {
		return err
	}
	seen := options{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.once(d); err != nil {
			return err
		}
		if d.Val() != "synchronous" {
			return d.Errf("unknown option %q of embedded", d.Val())
		}
		if err := parseChoice(d, &c.Synchronous, synchronousModes); err != nil {
			return err
		}
	}
	return nil
}

func (c *CookieConfig) unmarshal(d *caddyfile.Dispenser) error {
	start := d.Token()
	if d.NextArg() {
		c.Name = d.Val()
	}
	if err := noArgs(d); err != nil {
		return err
	}
	seen := options{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if err := seen.once(d); err != nil {
			return err
		}
		if err := c.option(d, option); err != nil {
			return err
		}
	}
	if err := c.check(); err != nil {
		return at(start, err)
	}
	return nil
}

func (c *CookieConfig) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "domain":
		return parseString(d, &c.Domain)
	case "path":
		return parseString(d, &c.Path)
	case "same_site":
		return parseChoice(d, &c.SameSite, []string{"lax", "strict", "none"})
	case "secure":
		return parseChoice(d, &c.Secure, secureModes)
	case "http_only":
		return parseSwitch(d, &c.HTTPOnly)
	case "partitioned":
		on := true
		c.Partitioned = &on
		return noArgs(d)
	}
	return d.Errf("unknown option %q of cookie", option)
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
	if err := checkChoice("policy of max_per_principal", l.Policy, limitPolicies); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *KeysConfig) unmarshal(d *caddyfile.Dispenser) error {
	start := d.Token()
	c.Secrets = d.RemainingArgs()
	seen := options{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.once(d); err != nil {
			return err
		}
		if d.Val() != "plain_until" {
			return d.Errf("unknown option %q of keys", d.Val())
		}
		if err := parseTime(d, &c.PlainUntil); err != nil {
			return err
		}
	}
	if err := c.check(); err != nil {
		return at(start, err)
	}
	return nil
}

func (c *CrossOriginConfig) unmarshal(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || args[0] != "deny" && args[0] != "allow" {
		return d.Err("cross_origin takes deny or allow, and the origins that are trusted")
	}
	c.Policy, c.Origins = args[0], args[1:]
	if err := c.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *UpstreamConfig) unmarshal(d *caddyfile.Dispenser) error {
	start := d.Token()
	if err := noArgs(d); err != nil {
		return err
	}
	seen := options{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option != "header" {
			if err := seen.once(d); err != nil {
				return err
			}
		}
		if err := c.option(d, option); err != nil {
			return err
		}
	}
	if err := c.check(); err != nil {
		return at(start, err)
	}
	return nil
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
	return d.Errf("unknown option %q of upstream", option)
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
