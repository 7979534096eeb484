package rqlitestore

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/rqlite/gorqlite"
)

const (
	defaultTable           = "sessions"
	defaultCleanupInterval = 5 * time.Minute

	// readTimeout and writeTimeout bound a call whose context has no deadline,
	// and each request in which calls travel together.
	readTimeout  = 3 * time.Second
	writeTimeout = 5 * time.Second

	// mostData is how much data a session has at most: 15.5 MiB. In hex that is
	// about what the embedded node takes in a request, and half of what a cluster's
	// answer may have: what is stored must not be too large to be read again.
	mostData = 31 << 19
)

func checkSize(data []byte) error {
	if len(data) > mostData {
		return fmt.Errorf("its data has %d bytes, %d are the most that there can be: store less", len(data), mostData)
	}
	return nil
}

// RqliteStore keeps sessions in a table of an rqlite database. It implements
// the interfaces Store, CtxStore, IterableStore and IterableCtxStore of scs.
// All methods may be called concurrently.
type RqliteStore struct {
	conn          *gorqlite.Connection
	now           func() time.Time
	reviveDeleted bool
	writer        string // whose writes these are, see newWriteID
	observe       func(Request)

	sql    *statements
	schema schema

	finds    *lane[string]
	loads    *lane[string]
	currents *lane[string]
	creates  *lane[outcome]
	saves    *lane[outcome]
	saveAlls *lane[outcome]
	renewals *lane[outcome]
	touches  *lane[struct{}]
	destroys *lane[struct{}]
	commits  *lane[struct{}]
	deletes  *lane[struct{}]
	lanes    []gauge // all of them
	chains   chains

	cleanup cleanup
}

// Options are the settings of a store. The zero value is usable: the table
// "sessions", no cleanup.
type Options struct {
	// Table is the name of the table: letters, digits and underscores, not
	// starting with a digit. The default is "sessions". Several tables may lie
	// in one database.
	Table string
	// CleanupInterval is how often expired rows are deleted. 0 turns it off.
	CleanupInterval time.Duration
	// OnCleanupError is told when a cleanup failed; the next one tries again.
	// By default such errors are dropped.
	OnCleanupError func(error)
	// ReviveDeleted lets Commit bring back a token that was deleted, for those
	// who use the store as a plain key-value table.
	ReviveDeleted bool
	// Observe is told of every request to the database when it has ended, for
	// metrics. It is called from several goroutines at once and must return
	// quickly. The requests that make the table are not among them.
	Observe func(Request)
	// Now is the clock, time.Now by default. Times in the table come from it:
	// the database's own clock is never asked.
	Now func() time.Time
}

// New returns a store over conn that deletes expired rows every 5 minutes, until
// [RqliteStore.StopCleanup]. It does no I/O.
func New(conn *gorqlite.Connection) *RqliteStore {
	return NewWithCleanupInterval(conn, defaultCleanupInterval)
}

// NewWithCleanupInterval returns a store over conn that deletes expired rows
// every interval. With 0 there is no cleanup.
func NewWithCleanupInterval(conn *gorqlite.Connection, interval time.Duration) *RqliteStore {
	return NewWithOptions(conn, Options{CleanupInterval: interval})
}

// NewWithOptions returns a store over conn with the settings o. It does no I/O;
// a table name that is not valid is reported by every call and by
// [RqliteStore.Prepare].
func NewWithOptions(conn *gorqlite.Connection, o Options) *RqliteStore {
	o.Table = cmp.Or(o.Table, defaultTable)
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &RqliteStore{
		conn:          conn,
		now:           o.Now,
		reviveDeleted: o.ReviveDeleted,
		writer:        newWriter(),
		observe:       o.Observe,
		sql:           statementsOf(o.Table, o.ReviveDeleted),
		schema:        schema{table: o.Table, turn: make(chan struct{}, 1)},
		chains:        chains{runs: make(map[string]*chain)},
		cleanup:       cleanup{onError: o.OnCleanupError},
	}
	s.finds = newLane(s.sendReads(kindFind, s.sql.find), readTimeout, shareRows)
	s.loads = newLane(s.sendReads(kindLoad, s.sql.load), readTimeout, shareRows)
	s.currents = newLane(s.sendReads(kindCurrent, s.sql.current), readTimeout, shareRows)
	s.creates = newLane(s.sendCreates, writeTimeout, oneRowPerKey).asBlob()
	s.saves = newLane(s.sendSaves(s.sql.save), writeTimeout, oneRowPerKey).asBlob()
	s.saveAlls = newLane(s.sendSaves(s.sql.saveAll), writeTimeout, oneRowPerKey).asBlob()
	s.renewals = newLane(s.sendRenewals, writeTimeout, oneRowPerKey)
	s.touches = newLane(s.sendTouches, writeTimeout, oneRowPerKey)
	s.destroys = newLane(s.sendDestroys, writeTimeout, oneRowPerKey)
	s.commits = newLane(s.sendCommits, writeTimeout, oneRowPerKey).asBlob()
	s.deletes = newLane(s.sendDeletes, writeTimeout, oneRowPerKey)
	s.lanes = []gauge{s.finds, s.loads, s.currents, s.creates, s.saves, s.saveAlls, s.renewals, s.touches, s.destroys, s.commits, s.deletes}
	s.StartCleanup(o.CleanupInterval)
	return s
}

var validTable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// withTimeout gives ctx a deadline if it has none.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}
