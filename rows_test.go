package caddysession_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	_ "modernc.org/sqlite"
)

// table is the store's table, read from beside Caddy as any SQL tool would.
type table struct {
	t  testing.TB
	db *sql.DB
}

// row is what the table holds of a session.
type row struct {
	token, id, data string
	expiry          float64 // Julian day
	version         int
	superseded      bool
}

const secondsPerDay = 86400

// table opens the file of the embedded node.
func (s *server) table() *table {
	s.t.Helper()
	return openTable(s.t, s.file())
}

func openTable(t testing.TB, file string) *table {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&_pragma=busy_timeout(2000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &table{t: t, db: db}
}

// count returns how many rows there are; none where nothing was ever stored.
func (s *table) count() int {
	s.t.Helper()
	var tables, n int
	err := s.db.QueryRow("SELECT count(*) FROM sqlite_master WHERE name = 'sessions'").Scan(&tables)
	if err == nil && tables > 0 {
		err = s.db.QueryRow("SELECT count(*) FROM sessions").Scan(&n)
	}
	if err != nil {
		s.t.Fatalf("counting rows: %v", err)
	}
	return n
}

// wantRows checks the number of rows.
func (s *table) wantRows(n int) {
	s.t.Helper()
	if have := s.count(); have != n {
		s.t.Fatalf("the store has %d rows, want %d", have, n)
	}
}

// only returns the one current row.
func (s *table) only() row {
	s.t.Helper()
	rows, err := s.current()
	if err != nil || len(rows) != 1 {
		s.t.Fatalf("the store has %d current rows (%v), want 1", len(rows), err)
	}
	return rows[0]
}

func (s *table) current() (found []row, err error) {
	rows, err := s.db.Query("SELECT token, id, CAST(data AS TEXT), expiry, version FROM sessions WHERE superseded IS NULL AND alias IS NULL")
	if err != nil {
		return nil, fmt.Errorf("reading rows: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.token, &r.id, &r.data, &r.expiry, &r.version); err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	return found, rows.Err()
}

// alter changes the file of the embedded node as whoever can write to it may.
func (s *server) alter(change string, args ...any) {
	s.t.Helper()
	alterFile(s.t, s.file(), change, args...)
}

func alterFile(t testing.TB, file, change string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(2000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(change, args...); err != nil {
		t.Fatal(err)
	}
}

// hashOf is what the table holds of a token.
func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
