// Package plainsql keeps sessions in rqlite the plain way: each call is one SQL
// statement with the values written into it, as the historical stores had it.
// It is what the coalescing store is measured against, and is not safe with
// tokens that come from a client.
package plainsql

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/rqlite/gorqlite"
)

// Store is a plain table of sessions.
type Store struct {
	conn  *gorqlite.Connection
	table string
}

// New returns a store over conn and makes its table.
func New(conn *gorqlite.Connection, table string) (*Store, error) {
	s := &Store{conn: conn, table: table}
	for _, sql := range []string{
		"CREATE TABLE IF NOT EXISTS %s (token TEXT PRIMARY KEY, data BLOB NOT NULL, expiry REAL NOT NULL)",
		"CREATE INDEX IF NOT EXISTS %[1]s_expiry ON %[1]s(expiry)",
	} {
		if _, err := conn.WriteOne(fmt.Sprintf(sql, table)); err != nil {
			return nil, fmt.Errorf("make the plain table: %w", err)
		}
	}
	return s, nil
}

// Find returns the data under token.
func (s *Store) Find(token string) ([]byte, bool, error) {
	rows, err := s.conn.QueryOne(fmt.Sprintf(
		"SELECT data FROM %s WHERE token = '%s' AND julianday('now') < expiry", s.table, token))
	if err != nil {
		return nil, false, fmt.Errorf("find session: %w", err)
	}
	if !rows.Next() {
		return nil, false, nil
	}
	var packed string
	if err := rows.Scan(&packed); err != nil {
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	data, err := hex.DecodeString(packed)
	if err != nil {
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	return data, true, nil
}

// Commit stores data under token.
func (s *Store) Commit(token string, data []byte, expiry time.Time) error {
	_, err := s.conn.WriteOne(fmt.Sprintf(
		"REPLACE INTO %s (token, data, expiry) VALUES ('%s', '%s', julianday('%s'))",
		s.table, token, hex.EncodeToString(data), expiry.UTC().Format("2006-01-02T15:04:05.000")))
	if err != nil {
		return fmt.Errorf("commit session: %w", err)
	}
	return nil
}
