package rqlitestore

import (
	"context"
	"fmt"
	"strconv"
)

// Import stores rows of an Export. It may be repeated as a whole or in part, in
// any order, with older and newer exports: what comes out is the same, and no
// session is there twice.
//
//   - A row that is there at the same or a higher version stays; an older one is
//     replaced. At the same version a row that a newer token took over from
//     replaces one that does not know of that yet, and the later expiry of a
//     current row holds. Rows of scs have no version: of two the one that expires
//     later holds, and of two that expire at once the one that is there.
//   - Where a session has a newer row under another token, an older row that
//     still takes itself for the current one is not stored, or is removed.
//   - A token that was deleted in this store is not revived, as by Commit, even
//     with [Options.ReviveDeleted]. Notes of deleted tokens are not moved: they
//     guard against writes under way to the store that they are in.
//   - Rows that have expired meanwhile are left out.
//
// Import adds, it never ends a session because an export lacks it. A session that
// was ended between two exports has to be ended in both stores; and one that was
// destroyed here and not deleted by token is there again after an import. So
// import before the store serves anybody, and nothing of this can happen.
//
// added is how many rows were stored or replaced. It lacks those that were sent
// again after an answer was lost, which then were there already. After an error, which comes
// when the database refuses the rows, when ctx ends or, where it has no deadline,
// after 5 s without success, some of the rows may be stored: import all of them again.
func (s *RqliteStore) Import(ctx context.Context, rows []Row) (added int64, err error) {
	for len(rows) > 0 {
		param, bare, n := importParams(rows)
		stored, err := s.importSome(ctx, param, bare, n)
		added += stored
		if err != nil {
			return added, fmt.Errorf("import sessions: %w", err)
		}
		rows = rows[n:]
	}
	return added, nil
}

// importSome stores the rows of one request. It tries again until ctx ends: a
// row that is there already stays as it is.
func (s *RqliteStore) importSome(ctx context.Context, param, bare string, n int) (stored int64, err error) {
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	now := julian(s.now())
	err = retry(ctx, isDefinite, func() error {
		rows, err := s.executeRepeatable(ctx, work{kindImport, n},
			statement{Query: s.sql.imported[0], Arguments: []any{param, now}},
			statement{Query: s.sql.imported[1], Arguments: []any{bare}},
			statement{Query: s.sql.imported[2], Arguments: []any{bare}},
		)
		if err == nil {
			stored = rows[0]
		}
		return err
	})
	return stored, err
}

// importParams makes the JSON of the first rows, as many as a request may have,
// once more without their data, and returns how many those are. Each is an array:
//
//	0 token  1 data  2 whether it is a text  3 expiry  4 id  5 version  6 writes
//	7 principal  8 superseded  9 alias  10 rights
//
// What a row does not have is null.
func importParams(rows []Row) (param, bare string, n int) {
	b := []byte{'['}
	for n < len(rows) && n < maxRows {
		before := len(b)
		if n > 0 {
			b = append(b, ',')
		}
		if b = appendImportRow(b, rows[n]); len(b) > maxBytes && n > 0 {
			b = b[:before]
			break
		}
		n++
	}
	c := []byte{'['}
	for i, r := range rows[:n] {
		if i > 0 {
			c = append(c, ',')
		}
		r.Data = nil
		c = appendImportRow(c, r)
	}
	return string(append(b, ']')), string(append(c, ']')), n
}

func appendImportRow(b []byte, r Row) []byte {
	b = appendQuotedHex(append(b, '['), r.Token)
	b = appendQuotedHex(append(b, ','), r.Data)
	b = strconv.AppendBool(append(b, ','), r.Text)
	b = appendJulian(append(b, ','), r.Expiry)
	b = appendNullableHex(append(b, ','), r.ID)
	b = appendNullableInt(append(b, ','), r.Version)
	b = appendNullableHex(append(b, ','), r.Writes)
	b = appendNullableHex(append(b, ','), r.Principal)
	if b = append(b, ','); r.Superseded.IsZero() {
		b = append(b, "null"...)
	} else {
		b = appendJulian(b, r.Superseded)
	}
	if b = append(b, ','); r.Aliased {
		b = append(b, `""`...)
	} else {
		b = appendNullableHex(b, r.Alias)
	}
	b = appendNullableInt(append(b, ','), r.Rights)
	return append(b, ']')
}

func appendNullableInt(b []byte, n int64) []byte {
	if n == 0 {
		return append(b, "null"...)
	}
	return strconv.AppendInt(b, n, 10)
}

// importSQL makes the statements of an import, which are one transaction.
func importSQL() [3]string {
	return [3]string{
		// The rows themselves, if they are newer than what is there.
		`INSERT INTO {sessions}(token,data,expiry,id,version,writes,principal,superseded,alias,rights)
SELECT {token},iif(j.value->>2,` + textSQL("j.value->>1") + `,unhex(j.value->>1)),j.value->>3,` + textSQL("j.value->>4") + `,j.value->>5,` +
			textSQL("j.value->>6") + `,` + textSQL("j.value->>7") + `,j.value->>8,` + textSQL("j.value->>9") + `,j.value->>10
FROM json_each(?1) j WHERE j.value->>3>?2 AND NOT EXISTS(SELECT 1 FROM {ended} e WHERE e.token={token})
AND NOT (j.value->>8 IS NULL AND EXISTS(SELECT 1 FROM {sessions} c WHERE c.id=` + textSQL("j.value->>4") + `
AND c.superseded IS NULL AND c.token<>{token}
AND (c.version>j.value->>5 OR (c.version=j.value->>5 AND c.token>{token}))))
ON CONFLICT(token) DO UPDATE SET data=excluded.data,expiry=excluded.expiry,id=excluded.id,version=excluded.version,writes=excluded.writes,
principal=excluded.principal,superseded=excluded.superseded,alias=excluded.alias,rights=excluded.rights
WHERE coalesce(excluded.version,0)>coalesce(version,0)
OR (excluded.version=version AND excluded.superseded IS NOT NULL AND superseded IS NULL)
OR (excluded.version IS NULL AND version IS NULL AND excluded.expiry>expiry)`,

		// Of rows at the same version: a use moves the expiry of the current row
		// forwards, the presenting of a newer token that of an older one
		// backwards, and neither counts the version.
		`UPDATE {sessions} AS s SET expiry=iif(s.superseded IS NULL,max(s.expiry,j.value->>3),min(s.expiry,j.value->>3))
FROM json_each(?1) j WHERE s.token={token} AND s.version=j.value->>5
AND (s.superseded IS NULL)=(j.value->>8 IS NULL) AND s.expiry<>j.value->>3`,

		// A session has one current row: the newest, and of two that are equally new
		// always the same.
		`DELETE FROM {sessions} WHERE id IN (SELECT ` + textSQL("j.value->>4") + ` FROM json_each(?1) j) AND superseded IS NULL
AND EXISTS(SELECT 1 FROM {sessions} n WHERE n.id={sessions}.id AND n.superseded IS NULL
AND (n.version>{sessions}.version OR (n.version={sessions}.version AND n.token>{sessions}.token)))`,
	}
}
