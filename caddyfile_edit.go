package caddysession

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func parseEdit(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	e := new(Edit)
	return e, e.UnmarshalCaddyfile(helper.Dispenser)
}

// UnmarshalCaddyfile reads a `session_edit` directive. Syntax:
//
//	session_edit [<matcher>] {
//	    put       <key> <value>
//	    put_json  <key> <json>
//	    increment <key> [<n>]
//	    remove    <key>...
//	    clear
//	    renew
//	    destroy
//	    destroy_others
//	    remember  on|off
//	    redir     <to> [<code>]
//	}
//
// or one of them on the line itself: session_edit put user {http.auth.user.id}
func (e *Edit) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	start := nextToken(d)
	if d.NextArg() {
		if err := e.operation(d); err != nil {
			return err
		}
	}
	before := ""
	for d.NextBlock(0) {
		if d.Val() == "{" {
			return noBlock(d, before)
		}
		before = d.Val()
		if err := e.operation(d); err != nil {
			return err
		}
	}
	return at(start, e.Validate())
}

// editOperations are what session_edit does, for errors.
var editOperations = []string{
	"put", "put_json", "increment", "remove", "clear", "renew", "destroy", "destroy_others", "remember", "redir",
}

func (e *Edit) operation(d *caddyfile.Dispenser) error {
	o := Operation{Action: d.Val()}
	args := d.RemainingArgs()
	var err error
	switch o.Action {
	case "put", "put_json":
		if len(args) != 2 {
			quotes := map[string]string{"put": "quotes", "put_json": "backticks"}[o.Action]
			return d.Errf("%s takes a key and a value; one with spaces goes into %s, another operation on a line of its own in the block", o.Action, quotes)
		}
		o.Key, o.Value = args[0], args[1]
	case "increment":
		err = o.parseIncrement(d, args)
	case "remove":
		o.Keys = args
	case "clear", "renew", "destroy", "destroy_others":
		if len(args) > 0 {
			return d.Errf("%s takes no arguments; another operation goes on a line of its own in the block", o.Action)
		}
	case "remember":
		err = o.parseRemember(d, args)
	case "redir":
		return e.parseRedirect(d, args)
	default:
		return d.Errf("unknown operation %q of session_edit: use %s", o.Action, strings.Join(editOperations, ", "))
	}
	if err != nil {
		return err
	}
	if err := o.parse(); err != nil {
		return d.WrapErr(err)
	}
	e.Operations = append(e.Operations, o)
	return nil
}

func (o *Operation) parseIncrement(d *caddyfile.Dispenser, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	o.Key = args[0]
	if len(args) == 2 {
		by, err := strconv.Atoi(args[1])
		if err != nil {
			return d.Errf("increment takes a whole number, not %q", args[1])
		}
		o.By = &by
	}
	return nil
}

func (o *Operation) parseRemember(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 || args[0] != "on" && args[0] != "off" {
		return d.Err("remember takes on or off")
	}
	if args[0] == "off" {
		o.Action = "forget"
	}
	return nil
}

func (e *Edit) parseRedirect(d *caddyfile.Dispenser, args []string) error {
	if e.Redirect != "" {
		return d.Err("session_edit redirects once: redir is given twice")
	}
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	e.Redirect = args[0]
	if len(args) == 1 {
		return nil
	}
	var err error
	e.StatusCode, err = parseStatus(args[1])
	return here(d, err)
}

// parseStatus reads the status of a redirect as Caddy's redir does.
func parseStatus(code string) (int, error) {
	switch code {
	case "temporary":
		return http.StatusFound, nil
	case "permanent":
		return http.StatusMovedPermanently, nil
	}
	status, err := strconv.Atoi(code)
	if err != nil || status < 301 || status > 308 {
		return 0, fmt.Errorf("%q is no status of a redirect: use 301 to 308, temporary or permanent", code)
	}
	return status, nil
}

var _ caddyfile.Unmarshaler = (*Edit)(nil)
