package rqlitestore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxHops bounds how often a look-up follows an older token. One hop is enough
// unless the session is renewed at this very moment.
const maxHops = 4

// look asks a lane of reads for key and follows it to the row that it leads to.
func (s *RqliteStore) look(ctx context.Context, l *lane[string], key string) (Record, bool, error) {
	var since time.Time
	asked := make([]string, 0, maxHops)
	for hop := range maxHops {
		packed, err := l.do(ctx, call[string]{key: key, row: quotedHex(key)})
		if err != nil || packed == "" {
			return Record{}, false, err
		}
		rec, aliasOf, readable, err := parseRecord(packed)
		if err != nil || !readable {
			// Data that cannot be read is a session that is not there: nobody
			// could sign in with an error.
			return Record{}, false, err
		}
		if aliasOf == "" {
			if l == s.loads {
				rec.Token = key
			}
			rec.Alias, rec.AliasSince = hop > 0, since
			return rec, true, nil
		}
		if hop == 0 {
			since = rec.Superseded
		}
		if asked = append(asked, key); slices.Contains(asked, aliasOf) {
			return Record{}, false, nil // no renewal makes a circle: somebody else did
		}
		key = aliasOf
	}
	return Record{}, false, errHops
}

var errHops = errors.New("older tokens lead to others without an end")

// sendReads makes the sender of a lane of reads: each call is answered with its
// packed row, "" if there is none. Of many rows those are left out that are
// larger than their share of the answer: their size is noted in the call.
func (s *RqliteStore) sendReads(kind string, sql reading) func(context.Context, []*call[string]) error {
	return func(ctx context.Context, calls []*call[string]) (err error) {
		now := julian(s.now())
		share := maxData / len(calls)
		for _, c := range calls {
			share, c.size = max(share, c.size), 0 // all together are known to have room
		}
		if len(calls) == 1 {
			c := calls[0]
			c.answer, err = s.query(ctx, work{kind, 1}, mayBeNone, statement{Query: sql.one, Arguments: []any{blob(c.key), now}})
			return err
		}
		all, err := s.query(ctx, work{kind, len(calls)}, exactlyOne, statement{Query: sql.many, Arguments: []any{joinRows(calls), now, share}})
		if err != nil || all == "" {
			return err
		}
		for row := range strings.SplitSeq(all, ";") {
			key, packed, ok := strings.Cut(row, ":")
			i, err := strconv.Atoi(key)
			if !ok || err != nil || i < 0 || i >= len(calls) {
				return errReply
			}
			size, large := strings.CutPrefix(packed, "~")
			if !large {
				calls[i].answer = packed
			} else if calls[i].size, err = strconv.Atoi(size); err != nil || calls[i].size <= 0 {
				return errReply
			}
		}
		return nil
	}
}
