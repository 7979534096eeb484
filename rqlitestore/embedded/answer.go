package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// reply is an answer before it becomes HTTP.
type reply struct {
	status int
	text   bool // plain text, not JSON
	body   []byte
}

func (a reply) contentType() string {
	if a.text {
		return "text/plain; charset=utf-8"
	}
	return "application/json; charset=utf-8"
}

func plainText(status int, text string) reply {
	return reply{status: status, text: true, body: []byte(text)}
}

func badRequest(err error) reply { return plainText(http.StatusBadRequest, err.Error()+"\n") }

// query answers /db/query.
func (n *Node) query(ctx context.Context, p params, list []statement) (reply, error) {
	return n.run(ctx, p, list, func(db *database, r *runner) error {
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
	return n.run(ctx, p, list, func(db *database, r *runner) error {
		return db.write(&job{ctx: ctx, r: r, list: list, run: func(s statement) (goOn bool) {
			return r.execute(s) == nil
		}})
	})
}

// request answers /db/request: reads and writes in one list.
func (n *Node) request(ctx context.Context, p params, list []statement) (reply, error) {
	return n.run(ctx, p, list, func(db *database, r *runner) error {
		if done, err := r.readIfOnlyReads(ctx, db, list); done || err != nil {
			return err
		}
		return db.write(&job{ctx: ctx, r: r, list: list, run: r.queryOrExecute})
	})
}

// run has work write the results of list and makes the reply of them. Its error means that there is no
// answer: the context has ended, or the file cannot be opened.
func (n *Node) run(ctx context.Context, p params, list []statement, work func(*database, *runner) error) (reply, error) {
	start := time.Now()
	r := &runner{params: p, maxResult: n.maxResult, out: make([]byte, 0, 512)}
	db, err := n.current(ctx)
	if err != nil {
		return reply{}, err
	}
	r.reset(nil)
	if err = guardAll(list); err == nil {
		err = work(db, r)
	}
	for ctx.Err() == nil && n.lost(db, err) {
		if err = n.reopen(ctx, db); err == nil {
			db, err = n.open(ctx)
		}
		if err != nil {
			return reply{}, err
		}
		r.reset(nil)
		err = work(db, r)
	}
	switch ended := ctx.Err(); {
	case err != nil && ended != nil:
		return reply{}, ended
	case r.broken != nil:
		return plainText(http.StatusInternalServerError, r.broken.Error()+"\n"), nil
	case p.queue && err == nil:
		err = r.failed
	}
	return reply{status: http.StatusOK, body: r.finish(start, err)}, nil
}

// finish closes the answer that began at start. An error of the request as a whole takes the place of the results.
func (r *runner) finish(start time.Time, err error) []byte {
	if err != nil || r.queue {
		r.reset(nil)
	}
	r.out = append(r.out, ']')
	if err != nil {
		r.out = appendString(r.field("error"), err.Error())
	}
	if r.timings {
		r.out = append(r.field("time"), seconds(time.Since(start))...)
	}
	if r.queue {
		// What is queued in rqlite has been done here. The number only has to grow.
		r.out = strconv.AppendInt(r.field("sequence_number"), start.UnixNano(), 10)
	}
	r.out = append(r.out, '}')
	if r.pretty {
		return indent(r.out)
	}
	return r.out
}

func indent(in []byte) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, in, "", "    "); err != nil {
		return in
	}
	return b.Bytes()
}
