package rqlitestore

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// Reads of many rows go page by page, in an order that an index has. A page has at
// most pageRows rows, and ends behind the row that brings it to pageBytes of
// data.
const (
	pageRows  = 1000
	pageBytes = 256 << 10
)

// pageSQL makes a statement that reads one page of packed rows p, those with the
// token ?1 and after.
//
// A token is a text. In SQLite's order every text comes before every blob, so
// that the shortest blob is behind the last token.
func pageSQL(row, where string) string {
	return packedPageSQL(row, "token>="+textSQL("?1")+" AND token<x'' AND "+where, "token", "")
}

// pageOfSQL makes the statement that reads one page of the current rows of the
// principal ?5, each with its number, which is lower than ?1.
func pageOfSQL() string {
	return packedPageSQL("p.rowid,',',"+recordSQL,
		"principal="+textSQL("?5")+" AND rowid<CAST(?1 AS INTEGER) AND typeof(token)='text' AND superseded IS NULL", "rowid", " DESC")
}

// packedPageSQL makes a statement that gives one cell, "row;row;row"; rows that
// there are but that did not fit are empty. The data of those is not read: it may
// be long.
func packedPageSQL(row, where, by, direction string) string {
	return `WITH candidate AS (SELECT rowid AS r,` + by + ` AS place,octet_length(data) AS size FROM {sessions}
WHERE ` + where + ` AND expiry>?2 ORDER BY ` + by + direction + ` LIMIT ?3+1),
counted AS (SELECT r,row_number() OVER o<=?3 AND sum(size) OVER o-size<?4 AS fits FROM candidate
WINDOW o AS (ORDER BY place` + direction + ` ROWS UNBOUNDED PRECEDING))
SELECT group_concat(iif(p.token IS NULL,'',concat(` + row + `)),';') FROM counted LEFT JOIN {sessions} p ON p.rowid=counted.r AND fits`
}

// packedPage reads one page of packed rows with the statement sql, which begins
// at from. more says that there are rows behind it.
func (s *RqliteStore) packedPage(ctx context.Context, kind, sql, from string, limit int, also ...any) (rows []string, more bool, err error) {
	ctx, cancel := withTimeout(ctx, readTimeout)
	defer cancel()
	args := append([]any{from, julian(s.now()), limit, pageBytes}, also...)
	packed, err := s.query(ctx, work{kind, 0}, exactlyOne, statement{Query: sql, Arguments: args})
	if err != nil || packed == "" {
		return nil, false, err
	}
	all := strings.Split(packed, ";")
	rows = slices.DeleteFunc(all, func(row string) bool { return row == "" })
	return rows, len(rows) < len(all), nil
}

// putInOrder sorts a page by its tokens: the database does not promise the order of
// what it joins into one cell. A page that others are said to be behind, and that
// does not come to the token from on which it begins, is an error, or whoever goes
// on would never come to an end.
func putInOrder[R any](rows []R, token func(R) string, from string, more bool) error {
	slices.SortFunc(rows, func(a, b R) int { return cmp.Compare(token(a), token(b)) })
	if more && (len(rows) == 0 || token(rows[len(rows)-1]) < from) {
		return errReply
	}
	return nil
}

// behind is the first token that there can be behind token.
func behind(token string) string { return token + "\x00" }
