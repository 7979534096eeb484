package rqlitestore

import (
	"context"
	"fmt"
)

const defaultListLimit = 100

// ListOptions say which sessions [RqliteStore.List] returns.
type ListOptions struct {
	// Principals are whose sessions are listed; without any, everybody's are.
	// One principal may have several names here, as when its name is hashed
	// under more than one key.
	Principals []string
	// After is where the page begins: behind this token. It is what List
	// returned as next with the page before.
	After string
	// Limit is how many sessions a page has at most: 100 by default and 1,000
	// at most.
	Limit int
}

// List returns one page of the sessions that have not expired, each by its
// current row, in the order of their tokens. A page may be shorter than the
// limit, because its size is limited as well. next is what to go on with in
// [ListOptions.After], and "" at the end.
//
// A session whose data cannot be read has nil Data, all others have not. Reading
// page by page gives no snapshot: sessions that come, go or get another token
// meanwhile may be missing, or be there twice.
func (s *RqliteStore) List(ctx context.Context, o ListOptions) (recs []Record, next string, err error) {
	if o.Limit <= 0 {
		o.Limit = defaultListLimit
	}
	from := ""
	if o.After != "" {
		from = behind(o.After)
	}
	recs, more, err := s.page(ctx, from, o.Principals, min(o.Limit, pageRows))
	if err != nil {
		return nil, "", fmt.Errorf("list sessions: %w", err)
	}
	if more {
		next = recs[len(recs)-1].Token
	}
	return recs, next, nil
}

// page reads the current rows from the token from on. Data that cannot be read
// is nil.
func (s *RqliteStore) page(ctx context.Context, from string, principals []string, limit int) (recs []Record, more bool, err error) {
	sql, also := s.sql.page, []any(nil)
	if len(principals) > 0 {
		sql, also = s.sql.pageOf, []any{jsonOfHex(principals)}
	}
	rows, more, err := s.packedPage(ctx, kindList, sql, from, limit, also...)
	if err != nil {
		return nil, false, err
	}
	recs = make([]Record, 0, len(rows))
	for _, row := range rows {
		rec, _, readable, err := parseRecord(row)
		if err != nil {
			return nil, false, err
		}
		if !readable {
			rec.Data = nil
		}
		recs = append(recs, rec)
	}
	if err := putInOrder(recs, func(r Record) string { return r.Token }, from, more); err != nil {
		return nil, false, err
	}
	return recs, more, nil
}
