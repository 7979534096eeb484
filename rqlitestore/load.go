package rqlitestore

import (
	"context"
	"strconv"
	"strings"
)

// look asks a lane of reads for key.
func (s *RqliteStore) look(ctx context.Context, l *lane[string], key string) (Record, bool, error) {
	ctx, cancel := withTimeout(ctx, readTimeout)
	defer cancel()
	packed, err := l.do(ctx, call[string]{key: key, row: quotedHex(key)})
	if err != nil || packed == "" {
		return Record{}, false, err
	}
	return parseFound(packed)
}

// sendLoads makes the sender of a lane of reads: each call is answered with its
// packed row, "" if there is none.
func (s *RqliteStore) sendLoads(sql string) func(context.Context, []*call[string]) error {
	return func(ctx context.Context, calls []*call[string]) error {
		all, err := s.query(ctx, statement{Query: sql, Arguments: []any{joinRows(calls), julian(s.now())}})
		if err != nil || all == "" {
			return err
		}
		for row := range strings.SplitSeq(all, ";") {
			key, packed, ok := strings.Cut(row, ":")
			i, err := strconv.Atoi(key)
			if !ok || err != nil || i < 0 || i >= len(calls) {
				return errReply
			}
			calls[i].answer = packed
		}
		return nil
	}
}

// parseFound reads "since:aliased:record". Data that cannot be read is a
// session that is not there: nobody could sign in with an error.
func parseFound(packed string) (Record, bool, error) {
	since, rest, ok := strings.Cut(packed, ":")
	aliased, rest, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return Record{}, false, errReply
	}
	rec, _, readable, err := parseRecord(rest)
	if err != nil || !readable {
		return Record{}, false, err
	}
	var p fieldParser
	rec.AliasSince = p.ms(since)
	if p.bad {
		return Record{}, false, errReply
	}
	rec.Alias = since != ""
	rec.Aliased = aliased == "1"
	return rec, true, nil
}
