package embedded

import (
	"context"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// read runs queries on a connection that reads. An error is the result of its statement, and the next is run. In a
// transaction all of them see the same state.
func (r *runner) read(ctx context.Context, conn *sqlite.Conn, list []statement) error {
	r.conn, r.reading = conn, true
	if r.transaction && len(list) > 1 {
		if err := conn.Exec("BEGIN"); err != nil {
			return err
		}
	}
	stop := watch(ctx, r.dbTimeout, conn)
	defer stop()
	for _, s := range list {
		if s.sql == "" {
			continue
		}
		if err := r.query(s); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// readIfOnlyReads runs the list on a connection that reads if no statement of it writes.
func (r *runner) readIfOnlyReads(ctx context.Context, db *database, list []statement) (done bool, err error) {
	for _, s := range list {
		switch rest := s.sql; nextWord(&rest) {
		case "insert", "update", "delete", "replace", "create", "drop", "alter":
			return false, nil
		}
	}
	conn, err := db.takeReader(ctx)
	if err != nil {
		return false, err
	}
	defer db.putReader(conn)
	for _, s := range list {
		if s.sql == "" {
			continue
		}
		if reads, err := readOnly(conn, s.sql); err != nil || !reads {
			return false, nil
		}
	}
	return true, r.read(ctx, conn, list)
}

// readOnly says whether the first statement of sql is one that writes nothing.
func readOnly(conn *sqlite.Conn, sql string) (bool, error) {
	stmt, _, err := conn.Prepare(sql)
	if err != nil || stmt == nil {
		return err == nil, err
	}
	defer stmt.Close()
	return stmt.ReadOnly() || stmt.Explain(), nil
}

// queryOrExecute runs one statement of a request that writes.
func (r *runner) queryOrExecute(s statement) (goOn bool) {
	reads, err := readOnly(r.conn, s.sql)
	switch {
	case err != nil:
		_ = r.end(r.begin(), err)
		return true // as in rqlite, one that does not even compile does not end the transaction
	case reads:
		return r.query(s) == nil
	default:
		return r.execute(s) == nil
	}
}

// writeAlone runs statements on the connection that writes. In a transaction the first that fails ends it:
// everything is rolled back and the rest is not run. When ctx ends the transaction is rolled back;
// without one, what has been run stays.
func (r *runner) writeAlone(ctx context.Context, list []statement, run func(statement) (goOn bool)) error {
	if r.transaction {
		if err := r.conn.Exec("BEGIN IMMEDIATE"); err != nil {
			return err
		}
	}
	ok, err := r.writeAll(ctx, list, run)
	if !ok {
		rollback(r.conn)
	}
	if err != nil || !r.conn.InTransaction() {
		return err
	}
	err = r.conn.Exec("COMMIT") // not under the watch: it is done or not, and the answer says which
	if sqlite.Full(err) {
		// Nothing was stored, and nothing will be. It is told as a statement's error, which leaves no doubt of that.
		r.reset(r.conn)
		_ = r.end(r.begin(), err)
		return nil
	}
	return err
}

// writeAll runs the statements while it watches ctx. It is not ok if what they did is to be undone.
func (r *runner) writeAll(ctx context.Context, list []statement, run func(statement) (goOn bool)) (ok bool, err error) {
	stop := watch(ctx, r.dbTimeout, r.conn)
	defer stop()
	for _, s := range list {
		if s.sql == "" || run(s) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return !r.transaction, err
		}
		if r.transaction {
			return false, nil
		}
	}
	if err := ctx.Err(); err != nil && r.transaction {
		return false, err
	}
	return true, nil
}
