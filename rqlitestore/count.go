package rqlitestore

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// countRows is how many rows one request of a count looks at. Between requests
// others get their turn.
const countRows = 20_000

// Count returns how many sessions have not expired. It reads part after part of
// the table, so it is no snapshot: sessions that come or go meanwhile may be in
// it or not.
func (s *RqliteStore) Count(ctx context.Context) (int64, error) {
	counts, err := s.CountByPrefix(ctx, 0)
	return counts[""], err
}

// CountByPrefix is Count by what the data of the sessions begins with, the first
// n bytes of it. Data that is shorter counts as what it is, and data that cannot
// be read as "".
func (s *RqliteStore) CountByPrefix(ctx context.Context, n int) (map[string]int64, error) {
	counts := make(map[string]int64)
	for from := int64(math.MinInt64); ; {
		last, more, err := s.countSome(ctx, from, max(n, 0), counts)
		if err != nil {
			return nil, fmt.Errorf("count sessions: %w", err)
		}
		if !more {
			return counts, nil
		}
		from = last
	}
}

// countSQL makes the statement of a count. It looks at the rows behind the rowid
// ?1, ?3 of them, and gives one cell: how many it has seen and the last rowid,
// then what it has counted, "seen,rowid;prefix:count;prefix:count".
func countSQL() string {
	return `WITH seen AS (SELECT rowid AS r,iif(superseded IS NULL AND expiry>?2,
iif(?4=0,'',coalesce(hex(iif(typeof(data)='text',unhex(substr(data,1,2*?4)),substr(data,1,?4))),'')),NULL) AS prefix
FROM {sessions} WHERE rowid>CAST(?1 AS INTEGER) ORDER BY rowid LIMIT ?3)
SELECT concat((SELECT count(*)||','||max(r) FROM seen),';',group_concat(prefix||':'||n,';'))
FROM (SELECT prefix,count(*) AS n FROM seen WHERE prefix IS NOT NULL GROUP BY prefix)`
}

// countSome adds to counts what is in the rows behind the rowid from, and
// returns the rowid of the last of them.
func (s *RqliteStore) countSome(ctx context.Context, from int64, n int, counts map[string]int64) (last int64, more bool, err error) {
	ctx, cancel := withTimeout(ctx, readTimeout)
	defer cancel()
	packed, err := s.query(ctx, work{kindCount, 0}, exactlyOne, statement{
		Query: s.sql.count,
		// The rowid is a text, because JSON has no integers of 64 bits.
		Arguments: []any{strconv.FormatInt(from, 10), julian(s.now()), countRows, n},
	})
	if err != nil {
		return 0, false, err
	}
	var p fieldParser
	head, packed, _ := strings.Cut(packed, ";")
	seen, rowid, _ := strings.Cut(head, ",")
	last, more = p.int(rowid), p.int(seen) == countRows
	for packed != "" {
		var part string
		part, packed, _ = strings.Cut(packed, ";")
		prefix, count, _ := strings.Cut(part, ":")
		counts[p.hex(prefix)] += p.int(count)
	}
	if p.bad || more && last <= from {
		return 0, false, errReply
	}
	return last, more, nil
}
