package rqlitestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A page of All has at most pageRows rows, and ends behind the row that brings
// it to pageBytes of data.
const (
	pageRows  = 1000
	pageBytes = 256 << 10
)

var errUnreadable = errors.New("a row holds data that cannot be read")

// AllCtx is All with a context. It reads page by page, so it is no snapshot:
// sessions that come or go meanwhile may be in it or not.
func (s *RqliteStore) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all := make(map[string][]byte)
	for from := ""; ; {
		recs, err := s.page(ctx, from)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		if len(recs) == 0 {
			return all, nil
		}
		for _, rec := range recs {
			all[rec.Token] = rec.Data
			from = max(from, rec.Token+"\x00") // the next token there can be
		}
	}
}

// page reads the first sessions from the token from on, in no order.
func (s *RqliteStore) page(ctx context.Context, from string) ([]Record, error) {
	ctx, cancel := withTimeout(ctx, readTimeout)
	defer cancel()
	packed, err := s.query(ctx, exactlyOne, statement{Query: s.sql.page, Arguments: []any{hexText(from), julian(s.now()), pageRows, pageBytes}})
	if err != nil || packed == "" {
		return nil, err
	}
	var recs []Record
	for row := range strings.SplitSeq(packed, ";") {
		rec, _, readable, err := parseRecord(row)
		if err != nil {
			return nil, err
		}
		if !readable {
			return nil, errUnreadable
		}
		recs = append(recs, rec)
	}
	return recs, nil
}
