package rqlitestore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Grace is how long an older token still reads after it was renewed, or, after
// a rotation, once a newer one was presented.
const Grace = 10 * time.Second

// What a caller of the versioned calls can act on.
var (
	// ErrConflict: the row kept changing until the deadline, which may have cut
	// the last try short: nobody knows what became of that one.
	ErrConflict = errors.New("session was changed by others at the same time")
	// ErrGone: the session was destroyed or has expired. Nothing was stored.
	ErrGone = errors.New("session is gone")
	// ErrSuperseded: the session was renewed with a change of rights after the
	// record was read. Nothing was stored.
	ErrSuperseded = errors.New("session was renewed under another token")
	// ErrExists: a session with this token is there already.
	ErrExists = errors.New("session token exists")
)

// Record is one session as the table holds it. Times are kept to the
// millisecond.
type Record struct {
	// Token is the primary key, what callers look up by.
	Token string
	// ID is the public id, the same through every renewal.
	ID string
	// Data is the content, 15.5 MiB at most; the store does not look into it.
	Data []byte
	// Expiry is when the session ends by itself.
	Expiry time.Time
	// Version counts what was stored: 1 when created, one more for every
	// change.
	Version int64
	// Rights counts renewals with a change of rights. Update sets it.
	Rights int64
	// Principal names whose session it is; "" for nobody.
	Principal string
	// Superseded is zero on the current row. Otherwise it is when the row was
	// renewed with a change of rights; it is in its grace then and Data is what
	// it was before.
	Superseded time.Time
	// Alias says that the token that was looked up is an older way in, rotated
	// without a change of rights. Everything else, Token too, is that of the
	// current row. On what the function given to Update returns it asks for
	// such a rotation.
	Alias bool
	// AliasSince is, with Alias, when a newer token took over.
	AliasSince time.Time
	// AliasUntil is only read from what the function given to Update returns,
	// with Alias: when the old token ends at the latest.
	AliasUntil time.Time
	// Aliased says that older tokens are still ways in to this session.
	Aliased bool
}

// Load returns the session that token leads to. It follows an older token that
// was rotated without a change of rights. A session that is not there, has expired
// or whose data cannot be read is reported as false.
func (s *RqliteStore) Load(ctx context.Context, token string) (Record, bool, error) {
	rec, ok, err := s.look(ctx, s.loads, token)
	if err != nil {
		return Record{}, false, fmt.Errorf("load session: %w", err)
	}
	return rec, ok, nil
}

// Current returns the current row of the session with this public id.
func (s *RqliteStore) Current(ctx context.Context, id string) (Record, bool, error) {
	rec, ok, err := s.look(ctx, s.currents, id)
	if err != nil {
		return Record{}, false, fmt.Errorf("load session by id: %w", err)
	}
	return rec, ok, nil
}

// Create stores a new session under a token and an id that were never used
// before, at version 1. ErrExists says that the token is taken. After any other
// error nobody knows whether the row is there: try again with a fresh token and
// a fresh id.
func (s *RqliteStore) Create(ctx context.Context, rec Record) error {
	if rec.ID == "" {
		return errors.New("create session: record has no id")
	}
	if rec.Token == "" {
		return errors.New("create session: record has no token")
	}
	if err := checkSize(rec.Data); err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	out, err := s.creates.do(ctx, call[outcome]{key: rec.Token, id: rec.ID, row: createRow(rec, s.newWriteID())})
	if err == nil {
		err = out.err
	}
	if err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	return nil
}

// Touch moves the expiry of the current row of a session forwards, never
// backwards. A session that is gone is no error.
func (s *RqliteStore) Touch(ctx context.Context, id string, expiry time.Time) error {
	if _, err := s.touches.do(ctx, call[struct{}]{key: id, row: touchRow(id, expiry)}); err != nil {
		return fmt.Errorf("touch session: %w", err)
	}
	return nil
}

// Presented notes that token was presented by a client: tokens of the session
// that are older end within [Grace].
func (s *RqliteStore) Presented(ctx context.Context, id, token string) error {
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	args := []any{hexText(id), hexText(token), julian(s.now().Add(Grace))}
	_, err := s.executeRepeatable(ctx, work{kindPresented, 1}, statement{Query: s.sql.endOlder, Arguments: args}, statement{Query: s.sql.endAlias, Arguments: args[:2]})
	if err != nil {
		return fmt.Errorf("end older tokens of session: %w", err)
	}
	return nil
}

// Destroy removes the sessions with these ids, every token of theirs. It tries
// again until ctx ends; only then, or where a node refuses its user or the
// connection was closed, it returns an error.
func (s *RqliteStore) Destroy(ctx context.Context, ids ...string) error {
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	calls := make([]call[struct{}], len(ids))
	for i, id := range ids {
		calls[i] = call[struct{}]{key: id, row: quotedHex(id)}
	}
	if err := retry(ctx, isRefused, func() error { return s.destroys.doAll(ctx, calls) }); err != nil {
		return fmt.Errorf("destroy session: %w", err)
	}
	return nil
}
