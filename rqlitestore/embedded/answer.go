package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// The beginning and the end of an answer about statements.
const (
	resultsOpen  = `{"results":[`
	resultsClose = `]`
)

// reply is an answer before it becomes HTTP.
type reply struct {
	status int
	text   bool // plain text, not JSON
	body   []byte
}

func plainText(status int, text string) reply {
	return reply{status: status, text: true, body: []byte(text)}
}

func badRequest(err error) reply { return plainText(http.StatusBadRequest, err.Error()+"\n") }

// run does the work of one request in a function of the runner and makes the reply of it. An error is one of the
// context or of the node, and means that there is no answer.
func (n *Node) run(ctx context.Context, p params, work func(context.Context, *database, *runner) error) (reply, error) {
	start := time.Now()
	db, err := n.open()
	if err != nil {
		return reply{}, err
	}
	if p.dbTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.dbTimeout)
		defer cancel()
	}
	r := &runner{params: p, out: append(make([]byte, 0, 512), resultsOpen...)}
	failed := work(ctx, db, r)
	if err := ctx.Err(); failed != nil && err != nil {
		return reply{}, err
	}
	if r.broken != nil {
		return plainText(http.StatusInternalServerError, r.broken.Error()+"\n"), nil
	}
	r.out = append(r.out, resultsClose...)
	if failed != nil {
		r.out = append(append(r.out[:0], resultsOpen...), resultsClose...)
		r.out = appendString(r.field("error"), failed.Error())
	}
	if p.timings {
		r.out = append(r.field("time"), seconds(time.Since(start))...)
	}
	r.out = append(r.out, '}')
	if p.pretty {
		r.out = indent(r.out)
	}
	return reply{status: http.StatusOK, body: r.out}, nil
}

func indent(in []byte) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, in, "", "    "); err != nil {
		return in
	}
	return b.Bytes()
}

// query answers /db/query.
func (n *Node) query(ctx context.Context, p params, list []statement) (reply, error) {
	return n.run(ctx, p, func(ctx context.Context, db *database, r *runner) error {
		if err := guardAll(list); err != nil {
			return err
		}
		conn, err := db.takeReader(ctx)
		if err != nil {
			return err
		}
		defer db.putReader(conn)
		return r.read(ctx, conn, list)
	})
}

// execute answers /db/execute.
func (n *Node) execute(ctx context.Context, p params, list []statement) (reply, error) {
	return n.run(ctx, p, func(ctx context.Context, db *database, r *runner) error {
		if err := guardAll(list); err != nil {
			return err
		}
		return r.write(ctx, db, list, func(s statement) (goOn bool) {
			return r.execute(s) == nil
		})
	})
}

// request answers /db/request: reads and writes in one list.
func (n *Node) request(ctx context.Context, p params, list []statement) (reply, error) {
	return n.run(ctx, p, func(ctx context.Context, db *database, r *runner) error {
		if err := guardAll(list); err != nil {
			return err
		}
		if done, err := r.readIfOnlyReads(ctx, db, list); done || err != nil {
			return err
		}
		return r.write(ctx, db, list, r.queryOrExecute)
	})
}

// guardAll refuses a request as a whole for a PRAGMA, as rqlite does.
func guardAll(list []statement) error {
	for _, s := range list {
		if err := guard(s.sql); err == errPragma {
			return err
		}
	}
	return nil
}

// read runs queries, each in the state that the transaction or itself began in. An error is the result
// of its statement and the next is run.
func (r *runner) read(ctx context.Context, conn *sqlite.Conn, list []statement) error {
	r.conn, r.reading = conn, true
	stop := watch(ctx, r.conn)
	defer stop()
	if r.transaction && len(list) > 1 {
		if err := r.conn.Exec("BEGIN"); err != nil {
			return err
		}
	}
	for _, s := range list {
		if s.sql == "" {
			continue
		}
		if err := r.query(s); err != nil && ctx.Err() != nil {
			return err
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
	return stmt.ReadOnly(), nil
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

// write runs statements on the connection that writes. In a transaction the first that fails ends it:
// everything is rolled back and the rest is not run.
func (r *runner) write(ctx context.Context, db *database, list []statement, run func(statement) (goOn bool)) error {
	conn, err := db.takeWriter(ctx)
	if err != nil {
		return err
	}
	defer db.putWriter(conn)
	r.conn = conn
	if r.transaction {
		if err := conn.Exec("BEGIN IMMEDIATE"); err != nil {
			return err
		}
	}
	if err := r.all(ctx, list, run); err != nil {
		return err
	}
	if !conn.InTransaction() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return conn.Exec("COMMIT")
}

// all runs the statements under the watch of ctx.
func (r *runner) all(ctx context.Context, list []statement, run func(statement) (goOn bool)) error {
	stop := watch(ctx, r.conn)
	defer stop()
	for _, s := range list {
		if s.sql == "" {
			continue
		}
		goOn := run(s)
		if !goOn && ctx.Err() != nil {
			return ctx.Err()
		}
		if !goOn && r.transaction {
			rollback(r.conn)
			return nil
		}
	}
	return nil
}
