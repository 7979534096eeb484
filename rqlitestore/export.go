package rqlitestore

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
)

// rowSQL packs a whole row p; parsePortable reads it.
var rowSQL = "hex(p.writes),','," + recordSQL

// Export gives yield all rows that are good for something, page by page and in
// the order of their tokens: those that have not expired, older tokens that
// still lead to a session or are in their grace among them. It begins behind the
// token after, so that one that was interrupted can go on behind the last row
// that yield was given; "" is the beginning. An error of yield ends it and is
// returned.
//
// Export is no snapshot: what is written meanwhile may be in it or not. A session
// that was renewed meanwhile may be missed where its new token comes before the
// rows that were still to be read. So to move a site end its writes first. With
// sessions that have versions, those of the versioned calls, most of it can be
// exported and imported while the site runs, and all of it once more after its
// writes have ended.
func (s *RqliteStore) Export(ctx context.Context, after string, yield func(rows []Row) error) error {
	from := ""
	if after != "" {
		from = behind(after)
	}
	for {
		rows, more, err := s.pageOfRows(ctx, from)
		if err != nil {
			return fmt.Errorf("export sessions: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		if err := yield(rows); err != nil {
			return err
		}
		if !more {
			return nil
		}
		from = behind(rows[len(rows)-1].Token)
	}
}

func (s *RqliteStore) pageOfRows(ctx context.Context, from string) (rows []Row, more bool, err error) {
	packed, more, err := s.packedPage(ctx, kindExport, s.sql.pageOfRows, hexText(from), pageRows)
	if err != nil {
		return nil, false, err
	}
	rows = make([]Row, len(packed))
	for i, p := range packed {
		if rows[i], err = parsePortable(p); err != nil {
			return nil, false, err
		}
	}
	if err := putInOrder(rows, func(r Row) string { return r.Token }, from, more); err != nil {
		return nil, false, err
	}
	return rows, more, nil
}

// parsePortable reads what rowSQL wrote.
func parsePortable(packed string) (Row, error) {
	writes, rest, _ := strings.Cut(packed, ",")
	row, err := parseRow(rest)
	if err != nil {
		return Row{}, err
	}
	ids, err := hex.DecodeString(writes)
	if err != nil {
		return Row{}, errReply
	}
	data, err := hex.DecodeString(row.data)
	if err != nil {
		return Row{}, errReply
	}
	return Row{
		Token: row.Token, Data: data, Text: row.text, Expiry: row.Expiry, ID: row.ID, Version: row.Version, Writes: string(ids),
		Principal: row.Principal, Superseded: row.Superseded, Alias: row.aliasOf, Aliased: row.Aliased, Rights: row.Rights,
	}, nil
}
