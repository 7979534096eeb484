package embedded

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// maxGroup is how many requests share one commit at most.
const maxGroup = 64

// job is a request that writes.
type job struct {
	ctx  context.Context
	r    *runner
	list []statement
	run  func(statement) (goOn bool)

	// taken is set by who runs the job, or by its caller who gives up before.
	taken atomic.Bool
	// done is closed when err and the results are final.
	done chan struct{}
	err  error
}

// queue holds the jobs that wait for the connection that writes.
type queue struct {
	mu   sync.Mutex
	jobs []*job
}

func (q *queue) push(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, j)
}

// pop takes out what may be committed together: the jobs at the front as long as they are groupable, or one that is not.
func (q *queue) pop() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < min(len(q.jobs), maxGroup) && q.jobs[n].groupable() {
		n++
	}
	if n == 0 && len(q.jobs) > 0 {
		n = 1
	}
	group := q.jobs[:n:n]
	if q.jobs = q.jobs[n:]; len(q.jobs) == 0 {
		q.jobs = nil
	}
	return group
}

// groupable says that the job can run inside a transaction that somebody else opened. Some statements (VACUUM, some
// PRAGMAs) mean something else there. And nothing may run after a statement that failed: if that one took the
// transaction with it, what follows would be stored, and stored again when the job is run by itself.
func (j *job) groupable() bool {
	if len(j.list) > 1 && !j.r.transaction {
		return false
	}
	for _, s := range j.list {
		switch rest := s.sql; nextWord(&rest) {
		case "insert", "update", "delete", "replace", "with":
		default:
			return false
		}
		if strings.Contains(s.sql, ";") {
			return false
		}
	}
	return true
}

// write has j run by whoever gets the connection that writes, which may be this caller. It returns when the
// results are on the disk.
//
// Requests that wait together share one transaction and so one sync of the disk, which is what a commit costs.
// Nobody waits for others to come: a group is what gathered during the last commit.
func (db *database) write(j *job) error {
	j.done = make(chan struct{})
	db.queue.push(j)
	for {
		select {
		case conn := <-db.writer:
			if !j.finished() { // or it waits here for the work of others
				db.runGroup(conn, db.queue.pop())
				db.log.count(conn.WALPages())
			}
			db.putWriter(conn)
			if j.finished() {
				return j.err
			}
		case <-j.done:
			return j.err
		case <-db.closed:
			return j.giveUp(ErrClosed)
		case <-j.ctx.Done():
			return j.giveUp(j.ctx.Err())
		}
	}
}

func (j *job) finished() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// giveUp returns err if nobody has begun to run the job, and what came of it otherwise.
func (j *job) giveUp(err error) error {
	if j.taken.CompareAndSwap(false, true) {
		return err
	}
	<-j.done
	return j.err
}

// runGroup runs jobs in one transaction, each behind a savepoint of its own. If SQLite gives up that transaction (an
// interrupt, a full disk, OR ROLLBACK) each is run again by itself, so that the error reaches the one that it belongs to.
func (db *database) runGroup(conn *sqlite.Conn, group []*job) {
	jobs := make([]*job, 0, len(group))
	for _, j := range group {
		if j.taken.CompareAndSwap(false, true) {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 1 || !runTogether(conn, jobs) {
		for _, j := range jobs {
			j.runAlone(conn)
		}
	}
	if db.isReplaced() {
		for _, j := range jobs {
			j.err = errReplaced
		}
	}
	for _, j := range jobs {
		if sqlite.Busy(j.err) {
			j.err = fmt.Errorf("%w: another program writes to %s: have it end its transaction", j.err, db.file)
		}
		close(j.done)
	}
}

func (j *job) runAlone(conn *sqlite.Conn) {
	if j.err = j.ctx.Err(); j.err != nil {
		return
	}
	j.r.reset(conn)
	j.err = j.r.writeAlone(j.ctx, j.list, j.run)
	rollback(conn) // what a request leaves open must not hold the writes of others
}

// runTogether runs the jobs and commits. It returns false if nothing of them was stored and they are to be run again.
func runTogether(conn *sqlite.Conn, jobs []*job) bool {
	defer rollback(conn)
	if err := conn.Exec("BEGIN IMMEDIATE"); err != nil {
		for _, j := range jobs { // another process has the lock: to wait for it once is enough
			j.err = err
		}
		return true
	}
	for _, j := range jobs {
		j.r.reset(conn)
		if conn.Exec("SAVEPOINT request") != nil {
			return false
		}
		var ok bool
		ok, j.err = j.r.writeAll(j.ctx, j.list, j.run)
		// Both fail if the transaction is gone.
		if !ok && conn.Exec("ROLLBACK TO request") != nil || conn.Exec("RELEASE request") != nil {
			return false
		}
	}
	return conn.Exec("COMMIT") == nil
}
