package rqlitestore

import (
	"context"
	"errors"
	"strings"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// inShort takes off an error what gorqlite writes around it when it asked this
// module's transports: to gorqlite they are one node with a made-up address, and
// what went wrong is at the end of the line.
func inShort(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if one, ok := strings.CutPrefix(text, "there were 1 statement errors\n"); ok {
		return reworded{err, one}
	}
	for _, address := range []string{"http://rqlite/", "http://embedded.invalid/"} {
		tried, ok := strings.CutPrefix(text, "tried all peers unsuccessfully. here are the results:\n   peer #0: "+address)
		if !ok {
			continue
		}
		_, cause, ok := strings.Cut(tried, " failed due to ")
		if _, inner, is := strings.Cut(cause, ` "`+address); is { // as net/http puts it: Post "address": cause
			_, cause, ok = strings.Cut(inner, `": `)
		}
		if ok {
			return reworded{err, strings.TrimSpace(cause)}
		}
	}
	return err
}

// reworded is an error under another text.
type reworded struct {
	error
	text string
}

func (r reworded) Error() string { return r.text }
func (r reworded) Unwrap() error { return r.error }

// ended is the error of a call whose context ended. It reads as why, which says
// what the call was waiting for; errors.Is finds cause, that of the context, too.
type ended struct{ cause, why error }

func (e ended) Error() string   { return e.why.Error() }
func (e ended) Unwrap() []error { return []error{e.cause, e.why} }

// inTime marks the error of a request whose context has ended: gorqlite passes on
// the text only.
func inTime(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || isDefinite(err) {
		return err
	}
	return ended{context.Cause(ctx), err}
}

// refused is the answer of a node that does not let its user do this, or of a
// connection that was closed: nothing was applied, and it will not be in a moment.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

func isRefused(err error) bool { return errors.As(err, new(refused)) }

// asRefused marks the error of a request that was refused. One that was sent twice
// may have been applied before.
func asRefused(ctx context.Context, err error) error {
	if err == nil || idempotent.Repeated(ctx) {
		return err
	}
	if errors.Is(err, gorqlite.ErrClosed) || allRefuse(err.Error()) {
		return refused{err}
	}
	return err
}

// allRefuse reports whether every node that was asked refused its user. gorqlite
// passes on the text only, and one of its own connections asks one after the other.
func allRefuse(text string) bool {
	refusals, nodes := 0, strings.Count(text, "\n   peer #")
	for _, status := range []string{"got: 401 ", "got: 403 "} {
		if strings.HasPrefix(text, status) {
			return true
		}
		refusals += strings.Count(text, " failed due to "+status)
	}
	return nodes > 0 && refusals == nodes
}

// unsent is the error of a call that reached no database: no node of a cluster has
// taken it, or its table could not be prepared before. Nothing was applied, and it
// may be in a moment.
type unsent struct{ error }

func (u unsent) Unwrap() error { return u.error }

func isUnsent(err error) bool { return errors.As(err, new(unsent)) }

// asUnsent marks the error of a request that no node has taken. Of one that may be
// sent again an earlier attempt may have been applied.
func asUnsent(ctx context.Context, err error) error {
	if err == nil || idempotent.MayBeApplied(ctx) || !strings.HasPrefix(err.Error(), "cluster: no node can answer") { // gorqlite passes on the text only
		return err
	}
	return unsent{err}
}
