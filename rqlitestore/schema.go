package rqlitestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/trouble"
)

// schema is what the store knows about its table.
type schema struct {
	table string
	ready atomic.Bool
	turn  chan struct{}                 // held by the one call that creates or migrates
	holds atomic.Pointer[trouble.Place] // of that call
}

// columns that scs's own SQL stores do not have. All of them may be NULL, so
// that rows of those stores stay valid.
var addedColumns = []struct{ name, kind string }{
	{"id", "TEXT"},         // public id, the same through every renewal
	{"version", "INTEGER"}, // counts what was stored
	{"writes", "TEXT"},     // id of the last write of each store, newest first
	{"principal", "TEXT"},  // whose session it is
	{"superseded", "REAL"}, // Julian day when a newer token took over
	{"alias", "TEXT"},      // token that this one leads to after a rotation
	{"rights", "INTEGER"},  // counts renewals with a change of rights
}

// index is an index of the table, or of that of notes.
type index struct{ name, on string }

var indexes = []index{
	{"expiry", `"(expiry)`},
	{"id", `"(id) WHERE id IS NOT NULL`},
	{"principal", `"(principal) WHERE principal IS NOT NULL`},
	{"alias", `"(alias) WHERE alias IS NOT NULL`},
	{"ended_expiry", `_ended"(expiry)`},
}

func (i index) foundAs(table string) string {
	return "index " + strings.ToLower(table) + "_" + i.name + "_idx"
}

func (i index) create(table string) string {
	return `CREATE INDEX IF NOT EXISTS "` + table + "_" + i.name + `_idx" ON "` + table + i.on
}

// Prepare creates the table, or adds to an older one what it lacks. The first
// call that needs the table does it too; Prepare does it now. Several processes
// may do it at the same time. A table of scs's own with a million rows takes more
// seconds than a call has without a deadline: calls fail until some of them together
// had the time for it. With many millions none has: call Prepare first then, with a
// context that has minutes.
func (s *RqliteStore) Prepare(ctx context.Context) error {
	if s.schema.ready.Load() {
		return nil
	}
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	ctx, told := trouble.Of(ctx)
	told.Follow(s.schema.holds.Load())
	select {
	case s.schema.turn <- struct{}{}:
		defer func() { <-s.schema.turn }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // as when the one that held the turn ran out of time, too
		why := context.Cause(ctx)
		if of := told.Newest(); of != nil {
			why = ended{why, of}
		}
		return unsent{fmt.Errorf("prepare table: %w", why)}
	}
	s.schema.holds.Store(told)
	if s.schema.ready.Load() {
		return nil
	}
	if s.conn == nil {
		return unsent{errors.New("prepare table: the connection is nil: what made it has returned an error")}
	}
	if !validTable.MatchString(s.schema.table) {
		return unsent{errors.New("prepare table: the name of the table may have letters, digits and underscores only, and must not start with a digit")}
	}
	if err := s.migrate(ctx); err != nil {
		return unsent{fmt.Errorf("prepare table %s: %w", s.schema.table, inTime(ctx, asRefused(ctx, err)))}
	}
	s.schema.ready.Store(true)
	return nil
}

func (s *RqliteStore) migrate(ctx context.Context) error {
	have, err := s.existing(ctx)
	if err != nil {
		return err
	}
	if have.complete(s.schema.table) {
		return nil // the usual case writes nothing
	}
	if err := s.refuseOthers(ctx, have); err != nil {
		return err
	}
	isNew := !have["column token"]
	if err := s.createTables(ctx); err != nil {
		return err
	}
	if have, err = s.existing(ctx); err != nil {
		return err
	}
	if err := s.addColumns(ctx, have); err != nil {
		return err
	}
	return s.addIndexes(ctx, have, isNew)
}

func (s *RqliteStore) createTables(ctx context.Context) error {
	table := s.schema.table
	columns := "token TEXT PRIMARY KEY,data BLOB NOT NULL,expiry REAL NOT NULL"
	for _, c := range addedColumns {
		columns += "," + c.name + " " + c.kind
	}
	return s.define(ctx, `CREATE TABLE IF NOT EXISTS "`+table+`"(`+columns+`)`,
		`CREATE TABLE IF NOT EXISTS "`+table+`_ended"(token TEXT PRIMARY KEY,expiry REAL NOT NULL)`)
}

// addColumns adds to an older table what it lacks.
func (s *RqliteStore) addColumns(ctx context.Context, have found) error {
	for _, c := range addedColumns {
		if have["column "+c.name] {
			continue
		}
		err := s.define(ctx, `ALTER TABLE "`+s.schema.table+`" ADD COLUMN `+c.name+` `+c.kind)
		if err != nil && !strings.Contains(err.Error(), "duplicate column") {
			return err // a duplicate is one that another process has just added
		}
	}
	return nil
}

func (s *RqliteStore) addIndexes(ctx context.Context, have found, isNew bool) error {
	var missing []string
	for _, i := range indexes {
		if !have[i.foundAs(s.schema.table)] {
			missing = append(missing, i.create(s.schema.table))
		}
	}
	if isNew {
		return s.define(ctx, missing...)
	}
	// One by one, so that what is done stays when the time is up: on a table with a
	// million rows each takes a second or more.
	for _, index := range missing {
		if err := s.define(ctx, index); err != nil {
			return err
		}
	}
	return nil
}

// found is what the database has: "column x", "note x" for a column of the table
// of notes, "index x" and "table x", in lower case, because to SQLite sessions and
// Sessions are one table.
type found map[string]bool

func (f found) complete(table string) bool {
	for _, c := range addedColumns {
		if !f["column "+c.name] {
			return false
		}
	}
	for _, i := range indexes {
		if !f[i.foundAs(table)] {
			return false
		}
	}
	return true // an index has its table
}

// others says what is there of something else; "" if nothing is.
func (f found) others(table string) string {
	name := strings.ToLower(table)
	switch {
	case f["view "+name]:
		return "there is a view of this name"
	case f["table "+name] && !(f["column token"] && f["column data"] && f["column expiry"]):
		return "there is a table of this name without the columns token, data and expiry: it is something else's"
	case f["note data"]:
		return "there is a table " + table + "_ended with sessions, where this one is to keep notes of deleted ones"
	case f["view "+name+"_ended"], f["table "+name+"_ended"] && !(f["note token"] && f["note expiry"]):
		return "there is a table or view " + table + "_ended of something else, where this one is to keep notes of deleted sessions"
	}
	return ""
}

// refuseOthers is the error for a name under which there is something else.
func (s *RqliteStore) refuseOthers(ctx context.Context, have found) (err error) {
	why := have.others(s.schema.table)
	if why == "" && have["column expiry"] {
		why, err = s.othersExpiry(ctx)
	}
	switch {
	case err != nil:
		return err
	case why != "":
		return errors.New(why + ", choose another name")
	}
	return nil
}

// othersExpiry says that the table has times that are no numbers: to SQLite they are
// later than all that are, so these sessions would never end.
func (s *RqliteStore) othersExpiry(ctx context.Context) (why string, err error) {
	kind, err := s.askTable(ctx, statement{Query: `SELECT typeof(max(expiry)) FROM "` + s.schema.table + `"`})
	if kind == "text" || kind == "blob" {
		why = "there is a table of this name whose column expiry has no Julian days: it is another store's"
	}
	return why, err
}

func (s *RqliteStore) existing(ctx context.Context) (found, error) {
	list, err := s.askTable(ctx, statement{
		Query: `SELECT group_concat(lower(x)) FROM (SELECT 'column '||name AS x FROM pragma_table_info(?1)
UNION ALL SELECT 'note '||name FROM pragma_table_info(?1||'_ended')
UNION ALL SELECT type||' '||name FROM sqlite_master WHERE lower(tbl_name) IN (lower(?1),lower(?1||'_ended')))`,
		Arguments: []any{s.schema.table},
	})
	if err != nil {
		return nil, err
	}
	f := found{}
	for x := range strings.SplitSeq(list, ",") {
		f[x] = true
	}
	return f, nil
}

// askTable returns the only cell of a query about the table itself.
func (s *RqliteStore) askTable(ctx context.Context, st statement) (string, error) {
	results, err := s.conn.QueryParameterizedContext(ctx, []statement{st})
	if err != nil {
		return "", inShort(err)
	}
	return oneCell(results, exactlyOne)
}

// define runs statements that define tables, in one transaction. Another process may
// have left nothing to define, which rqlite would take for an error.
func (s *RqliteStore) define(ctx context.Context, sql ...string) error {
	if len(sql) == 0 {
		return nil
	}
	_, err := s.conn.WriteContext(ctx, sql)
	return inShort(err)
}
