package caddysession

import (
	"encoding/json"
	"slices"

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
	if d.NextArg() {
		return nil, d.Errf("the global option session takes a block and nothing before it, not %q", d.Val())
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
	var app App
	if global, ok := helper.Option("session").(httpcaddyfile.App); ok {
		if err := json.Unmarshal(global.Value, &app); err != nil {
			return nil, err
		}
	}
	if _, err := h.with(app.Defaults); err != nil {
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
//	    audience          <name>
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
	return at(start, h.check())
}

// Options by the block that has them, for errors.
var (
	sessionOptions = []string{
		"rqlite", "embedded", "table", "cleanup_interval", "max_calls", "cookie", "lifetime", "idle_timeout", "touch_interval",
		"renew_interval", "persist", "remember_lifetime", "max_size", "cache", "principal", "max_per_principal", "bind", "audience", "track",
		"on_store_error", "revalidate", "max_new_per_client", "cross_origin", "keys", "upstream",
	}
	cookieOptions   = []string{"domain", "path", "same_site", "secure", "http_only", "partitioned"}
	rqliteOptions   = []string{"username", "password", "tls_ca", "tls_cert", "tls_insecure_skip_verify", "consistency", "timeout"}
	embeddedOptions = []string{"synchronous"}
	keysOptions     = []string{"plain_until"}
	upstreamOptions = []string{"send", "header", "accept"}
)

// unmarshal reads what follows the directive's name.
func (h *Handler) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("session takes a matcher and a block, not %q: write its options into the block, one a line", d.Val())
	}
	return eachOption(d, 0, h.option)
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
		for i := range h.Bind {
			h.Bind[i] = longForm(h.Bind[i])
		}
		return here(d, h.checkBind())
	case "audience":
		if err := parseString(d, &h.Audience); err != nil {
			return err
		}
		h.Audience = longForm(h.Audience)
		return here(d, h.checkAudience())
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
		h.MaxNewPerClient = new(ClientLimit)
		return h.MaxNewPerClient.unmarshal(d)
	case "cross_origin":
		h.CrossOrigin = new(CrossOriginConfig)
		return h.CrossOrigin.unmarshal(d)
	case "upstream":
		h.Upstream = new(UpstreamConfig)
		return h.Upstream.unmarshal(d)
	}
	if block := blockOf(option); block != "" {
		return d.Errf("%s is an option of %s: write it into the block of %s", option, block, block)
	}
	return unknownOption(d, "session", option, sessionOptions)
}

// blockOf names the block within `session` that an option belongs to; "" for none.
func blockOf(option string) string {
	for _, block := range []struct {
		name    string
		options []string
	}{
		{"cookie", cookieOptions},
		{"rqlite", rqliteOptions},
		{"embedded", embeddedOptions},
		{"keys", keysOptions},
		{"upstream", upstreamOptions},
	} {
		if slices.Contains(block.options, option) && option != "timeout" { // which may be meant for idle_timeout
			return block.name
		}
	}
	return ""
}

func (c *CookieConfig) unmarshal(d *caddyfile.Dispenser) error {
	start := d.Token()
	if d.NextArg() {
		c.Name = d.Val()
	}
	if err := noArgs(d); err != nil {
		return err
	}
	if err := eachOption(d, d.Nesting(), c.option); err != nil {
		return err
	}
	return at(start, c.check())
}

func (c *CookieConfig) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "domain":
		return parseString(d, &c.Domain)
	case "path":
		return parseString(d, &c.Path)
	case "same_site":
		return parseChoice(d, &c.SameSite, sameSiteModes)
	case "secure":
		return parseChoice(d, &c.Secure, secureModes)
	case "http_only":
		return parseSwitch(d, &c.HTTPOnly)
	case "partitioned":
		c.Partitioned = new(true)
		return noArgs(d)
	}
	return unknownOption(d, "cookie <name>", option, cookieOptions)
}

func (c *CrossOriginConfig) unmarshal(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || !slices.Contains(originPolicies, args[0]) {
		return d.Err("cross_origin takes deny or allow, and the origins that are trusted")
	}
	c.Policy, c.Origins = args[0], args[1:]
	return here(d, c.check())
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
