package embedded_test

import (
	"context"
	"fmt"
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
