package embedded_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"
)

func TestWrite_isWholeOrNothingWhenCancelled(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a INTEGER, round INTEGER)")
	for round := range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(round)*200*time.Microsecond)
		insert := fmt.Sprintf("INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000) SELECT i, %d FROM n", round)
		_, err := conn.WriteContext(ctx, []string{insert, insert})
		cancel()
		got := count(t, conn, fmt.Sprintf("SELECT count(*) FROM t WHERE round = %d", round))
		if got != 0 && got != 2000 || err == nil && got != 2000 {
			t.Fatalf("round %d: %d rows, want none or 2000; error %v", round, got, err)
		}
	}
}

func TestWrite_isSeenByEveryReadThatBeginsLater(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)")
	var wg sync.WaitGroup
	for id := range 6 {
		wg.Go(func() {
			for v := range 40 {
				if _, err := conn.WriteOneParameterized(sql("INSERT INTO t VALUES(?, ?) ON CONFLICT(id) DO UPDATE SET v = excluded.v", id, v)); err != nil {
					t.Error(err)
					return
				}
				if got := count(t, conn, fmt.Sprintf("SELECT v FROM t WHERE id = %d", id)); got != int64(v) {
					t.Errorf("read %d after %d was acknowledged", got, v)
					return
				}
			}
		})
	}
	wg.Wait()
}

// All statements of a request read the same state, though writes go on between them.
func TestQuery_seesOneState(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES(0)")
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for ctx.Err() == nil {
			write(t, conn, "UPDATE t SET v = v + 1")
		}
	})
	defer writing.Wait()
	defer stop()
	const slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) SELECT count(*) FROM n"
	for seen := int64(-1); seen < 20; {
		results, err := conn.Query([]string{"SELECT v FROM t", slow, "SELECT v FROM t"})
		if err != nil {
			t.Fatal(err)
		}
		var first, last int64
		for i, v := range map[int]*int64{0: &first, 2: &last} {
			if !results[i].Next() || results[i].Scan(v) != nil {
				t.Fatalf("result %d: %v", i, results[i].Err)
			}
		}
		if first != last {
			t.Fatalf("%d at first, %d at last", first, last)
		}
		seen = last
	}
}

func TestWrite_doesNotWaitForReaders(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a)")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			_, _ = conn.QueryOneContext(ctx, "WITH RECURSIVE n(i) AS (SELECT count(*) FROM t UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n")
		})
	}
	for range 20 {
		write(t, conn, "INSERT INTO t VALUES(1)")
	}
	if got := count(t, conn, "SELECT count(*) FROM t"); got != 20 {
		t.Errorf("%d rows, want 20", got)
	}
	cancel()
	wg.Wait()
}

func TestWrite_countsRowsExactlyAmongManyWriters(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER NOT NULL)", "INSERT INTO t VALUES(1, 0)")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			for v := range 20 {
				r, err := conn.WriteOneParameterized(sql("UPDATE t SET v = v + 1 WHERE id = 1 AND v = ?", v))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				won += int(r.RowsAffected)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := count(t, conn, "SELECT v FROM t"); int64(won) != got {
		t.Errorf("%d updates reported a row, %d happened", won, got)
	}
}

func TestWrite_ofARequestThatFailsLeavesTheNextAlone(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
	for _, bad := range [][]gorqlite.ParameterizedStatement{
		{sql("INSERT INTO t VALUES(1)"), sql("INSERT INTO t VALUES(1)")},
		{sql("INSERT INTO t VALUES(1)"), sql("INSERT OR ROLLBACK INTO t VALUES(1)")},
		{sql("INSERT INTO t VALUES(1)"), sql("BEGIN")},
		{sql("INSERT INTO t VALUES(1)"), sql("INSERT INTO t VALUES(?)")},
		{sql("INSERT INTO t VALUES(1); COMMIT; INSERT INTO t VALUES(2)")},
		{sql("SAVEPOINT x; INSERT INTO t VALUES(1)")},
	} {
		if _, err := conn.WriteParameterized(bad); err == nil {
			t.Errorf("%v: no error", bad)
		}
		if got := count(t, conn, "SELECT count(*) FROM t"); got != 0 {
			t.Errorf("%v: left %d rows", bad, got)
		}
		write(t, conn, "INSERT INTO t VALUES(5)")
		if got := count(t, conn, "SELECT count(*) FROM t"); got != 1 {
			t.Errorf("%v: the next write has %d rows, want 1", bad, got)
		}
		write(t, conn, "DELETE FROM t")
	}
}

func TestWrite_everyOutcomeIsItsOwnAmongManyWriters(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT NOT NULL)", "INSERT INTO t VALUES(0, 'there')")
	type outcome struct {
		id   int
		kind string
		err  error
	}
	outcomes := make(chan outcome, 32*20)
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := range 20 {
				id := 1 + 2*(w*20+i)
				o := outcome{id: id, kind: []string{"good", "fails", "good", "rolls back", "cancelled"}[(w+i)%5]}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				second := fmt.Sprintf("INSERT INTO t VALUES(%d, 'b')", id+1)
				switch o.kind {
				case "fails":
					second = "INSERT INTO t VALUES(0, 'b')"
				case "rolls back":
					second = "INSERT OR ROLLBACK INTO t VALUES(0, 'b')"
				case "cancelled":
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*100*time.Microsecond)
				}
				var results []gorqlite.WriteResult
				results, o.err = conn.WriteContext(ctx, []string{fmt.Sprintf("INSERT INTO t VALUES(%d, 'a')", id), second})
				cancel()
				if o.err == nil && len(results) != 2 {
					t.Errorf("%d %s: %d results of 2 statements", id, o.kind, len(results))
				}
				outcomes <- o
			}
		})
	}
	wg.Wait()
	close(outcomes)
	for o := range outcomes {
		rows := count(t, conn, fmt.Sprintf("SELECT count(*) FROM t WHERE id IN (%d, %d)", o.id, o.id+1))
		wantRows := map[bool]int64{true: 2, false: 0}[o.err == nil]
		if o.kind == "good" && o.err != nil || (o.kind == "fails" || o.kind == "rolls back") && o.err == nil {
			t.Errorf("%d %s: error %v", o.id, o.kind, o.err)
		}
		if rows != wantRows && !(o.kind == "cancelled" && rows == 2) {
			t.Errorf("%d %s: %d rows, error %v", o.id, o.kind, rows, o.err)
		}
	}
}

func TestWrite_thatCannotBeGroupedRunsAmongOthers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a INTEGER)")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range 10 {
				text := "INSERT INTO t VALUES(1)"
				switch w { // VACUUM is an error inside a transaction
				case 0:
					text = "VACUUM"
				case 1:
					text += "; VACUUM"
				}
				status, answer := roundTrip(t, n, "/db/execute", `["`+text+`"]`)
				if status != 200 || strings.Contains(answer, "error") {
					t.Errorf("%s: %d %s", text, status, answer)
				}
			}
		})
	}
	wg.Wait()
	if got := count(t, conn, "SELECT count(*) FROM t"); got != 70 {
		t.Errorf("%d rows, want 70", got)
	}
}

func TestWrite_withoutTransactionIsNotRepeatedAmongOthers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER NOT NULL)", "INSERT INTO t VALUES(0, 0), (1, 0)")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				// The first statement fails and takes a transaction around it along, the second counts.
				roundTrip(t, n, "/db/execute", `["INSERT OR ROLLBACK INTO t VALUES(0, 1)", "UPDATE t SET v = v + 1 WHERE id = 0"]`)
				roundTrip(t, n, "/db/execute?transaction", `["UPDATE t SET v = v + 1 WHERE id = 1"]`)
			}
		})
	}
	wg.Wait()
	for id := range 2 {
		if got := count(t, conn, fmt.Sprintf("SELECT v FROM t WHERE id = %d", id)); got != 80 {
			t.Errorf("%d: counted %d, want 80", id, got)
		}
	}
}
