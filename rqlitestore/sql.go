package rqlitestore

import (
	"strconv"
	"strings"
	"sync"
)

// statements is the SQL of one table. Values are parameters, without exception;
// ?1 is JSON with a row for each caller, or with where it begins (see blob.go), so
// that a statement is the same for two rows and for hundreds. No SQL function gives the time: on the nodes of a
// cluster it would not be the same.
//
// Statements that write choose their rows by key or in a fixed order, so that
// every node chooses the same.
type statements struct {
	find, load         reading
	current            reading
	touch              string
	create             writing
	save, saveAll      writing
	supersede, follow  string
	renew, resolve     string
	destroy            string
	destroyPrincipal   string
	destroyBeyond      string
	endOlder, endAlias string
	commit             writing
	note, remove       string
	page, pageOf       string
	pageOfRows, count  string
	imported           [3]string
	expired            cleaning
	expiredNotes       cleaning
}

// reading and writing have a statement of their own for a lone call: SQLite
// takes longer to prepare the one for many than to run it once.
type (
	reading struct{ one, many string }
	writing struct{ one, many string }
)

// statementsOf are the statements of a table. Those of the one that stores have by
// default are made once: a program may have thousands of them, a file each.
func statementsOf(table string, reviveDeleted bool) *statements {
	if table == defaultTable && !reviveDeleted {
		return ofDefaultTable()
	}
	return newStatements(table, reviveDeleted)
}

var ofDefaultTable = sync.OnceValue(func() *statements { return newStatements(defaultTable, false) })

func newStatements(table string, reviveDeleted bool) *statements {
	st := statements{
		find:    readingSQL("typeof(p.data)='text',hex(p.data)", "p.token={key} AND p.superseded IS NULL"),
		load:    readingSQL("',',"+recordSQLWithoutToken, "p.token={key}"),
		current: readingSQL(recordSQL, "p.id={key} AND p.superseded IS NULL"),
		create:  createSQL(),
		save:    savingSQL(""),
		saveAll: savingSQL(",expiry={expiry},principal={principal}"),
		commit:  commitSQL(reviveDeleted),

		touch: `UPDATE {sessions} AS s SET expiry=j.value->>1 FROM json_each(?1) j
WHERE s.id={token} AND s.superseded IS NULL AND s.expiry>?2 AND s.expiry<j.value->>1`,

		// The three statements of a renewal are one transaction. The old row:
		// either in its grace, or an alias that leads to the new one.
		supersede: `UPDATE {sessions} AS s SET superseded=?2,
alias=iif(j.value->>10 IS NULL,NULL,{newtoken}),
data=iif(j.value->>10 IS NULL,s.data,x''),
expiry=iif(j.value->>10 IS NULL,min(s.expiry,?3),j.value->>10),
writes={writes}
FROM json_each(?1) j
WHERE s.token={token} AND s.version=j.value->>1 AND s.superseded IS NULL AND s.expiry>?2`,

		// Aliases of the old row lead to the new one, if that was a rotation.
		follow: `UPDATE {sessions} AS s SET alias={newtoken} FROM json_each(?1) j
WHERE s.alias={token} AND j.value->>10 IS NOT NULL
AND EXISTS(SELECT 1 FROM {sessions} o WHERE o.token={token} AND o.superseded IS NOT NULL AND substr(o.writes,1,{idlen})={writeid})`,

		// The new row: only if the old one was superseded by this very write,
		// and only while the session has no current row, so that a request that
		// arrives a second time, however late, adds nothing.
		renew: `INSERT INTO {sessions}(token,data,expiry,id,version,writes,principal,rights,alias)
SELECT {newtoken},unhex(j.value->>9),j.value->>4,o.id,j.value->>3,o.writes,{principal},j.value->>7,iif(j.value->>10 IS NULL,NULL,'')
FROM json_each(?1) j CROSS JOIN {sessions} o ON o.token={token}
WHERE o.superseded IS NOT NULL AND substr(o.writes,1,{idlen})={writeid}
AND NOT EXISTS(SELECT 1 FROM {sessions} c WHERE c.id=o.id AND c.superseded IS NULL)`,

		// Changes nothing and returns what is there. As a write it goes through
		// the Raft log, behind every write before it, whatever the consistency
		// level of the connection. rqlite looks for "returning " with the space.
		resolve: `UPDATE {sessions} SET version=version
WHERE id IN (SELECT {value} FROM json_each(?1) j) AND superseded IS NULL AND expiry>?2
RETURNING concat(writes,':',` + strings.ReplaceAll(recordSQL, "p.", "") + `)`,

		destroy: `DELETE FROM {sessions} WHERE id IN (SELECT {value} FROM json_each(?1) j)`,

		// Some of them, in the order of the index: the same on every node.
		destroyPrincipal: `DELETE FROM {sessions} WHERE id IN (SELECT o.id FROM {sessions} o
WHERE o.principal IN (SELECT {value} FROM json_each(?1) j) AND o.superseded IS NULL AND o.id<>` + textSQL("?2") + `
ORDER BY o.principal,o.rowid LIMIT ?3)`,

		// Of the sessions ?2 as many as there are too many, in their order. For
		// rqlite's parser key is a keyword: unquoted, it would give no rows back.
		destroyBeyond: `DELETE FROM {sessions} WHERE id IN (SELECT o.id FROM json_each(?2) n CROSS JOIN {sessions} o
ON o.id=` + textSQL("n.value") + ` AND o.principal IN (SELECT {value} FROM json_each(?1) j) AND o.superseded IS NULL AND o.expiry>?3
ORDER BY n."key" LIMIT max(0,(SELECT count(*) FROM {sessions} c
WHERE c.principal IN (SELECT {value} FROM json_each(?1) j) AND c.superseded IS NULL AND c.expiry>?3)-?4))
RETURNING hex(id)`,

		endOlder: `UPDATE {sessions} SET expiry=min(expiry,?3)
WHERE id=` + textSQL("?1") + ` AND alias<>''
AND superseded<coalesce((SELECT n.superseded FROM {sessions} n WHERE n.token=` + textSQL("?2") + `),1e9)`,
		endAlias: `UPDATE {sessions} SET alias=NULL WHERE token=` + textSQL("?2") + ` AND id=` + textSQL("?1") + ` AND superseded IS NULL`,

		note: `INSERT INTO {ended}(token,expiry)
SELECT {value},max(?2,coalesce((SELECT s.expiry FROM {sessions} s WHERE s.token={value}),0)) FROM json_each(?1) j WHERE true
ON CONFLICT(token) DO UPDATE SET expiry=max(expiry,excluded.expiry)`,

		remove: `DELETE FROM {sessions} WHERE token IN (SELECT {value} FROM json_each(?1) j)`,

		page:       pageSQL(recordSQL, "superseded IS NULL"),
		pageOf:     pageOfSQL(),
		pageOfRows: pageSQL(rowSQL, "true"),
		count:      countSQL(),
		imported:   importSQL(),
	}
	st.expired, st.expiredNotes = cleaningSQL("{sessions}"), cleaningSQL("{ended}")
	st.each(strings.NewReplacer(
		"{sessions}", `"`+table+`"`,
		"{ended}", `"`+table+`_ended"`,
		"{token}", textSQL("j.value->>0"),
		"{newtoken}", textSQL("j.value->>2"),
		"{principal}", textSQL("j.value->>6"),
		"{writeid}", "j.value->>8",
		"{writes}", writesSQL("(j.value->>8)", "s.writes"),
		"{idlen}", strconv.Itoa(writeIDLen),
		"{value}", textSQL("j.value"),
	).Replace)
	return &st
}

// each replaces every statement by what f makes of it.
func (st *statements) each(f func(string) string) {
	for _, sql := range []*string{
		&st.find.one, &st.find.many, &st.load.one, &st.load.many, &st.current.one, &st.current.many,
		&st.create.one, &st.create.many, &st.touch, &st.save.one, &st.save.many, &st.saveAll.one, &st.saveAll.many,
		&st.supersede, &st.follow, &st.renew, &st.resolve, &st.destroy, &st.destroyPrincipal, &st.destroyBeyond, &st.endOlder, &st.endAlias,
		&st.commit.one, &st.commit.many, &st.note, &st.remove,
		&st.page, &st.pageOf, &st.pageOfRows, &st.count, &st.imported[0], &st.imported[1], &st.imported[2],
		&st.expired.find, &st.expired.remove, &st.expiredNotes.find, &st.expiredNotes.remove,
	} {
		*sql = f(*sql)
	}
}

// readingSQL makes the statements that read packed rows p by their key. The one
// for many gives one cell, "index:row;index:row…". Of a row with more than ?3
// bytes of data it gives the size, "index:~size".
func readingSQL(row, where string) reading {
	return reading{
		one: "SELECT concat(" + row + ") FROM {sessions} p WHERE " + strings.ReplaceAll(where, "{key}", textOf("?1")) + " AND p.expiry>?2",
		many: "SELECT group_concat(concat(j.key,':',iif(octet_length(p.data)<=?3,concat(" + row + "),concat('~',octet_length(p.data)))),';') FROM json_each(?1) j CROSS JOIN {sessions} p ON " +
			strings.ReplaceAll(where, "{key}", textSQL("j.value")) + " WHERE p.expiry>?2",
	}
}

// createSQL makes the statements that create a row under a token that is free.
func createSQL() writing {
	const sql = `INSERT INTO {sessions}(token,data,expiry,id,version,writes,principal,rights)
SELECT {token},{data},{expiry},{id},1,{writes},{principal},{rights}{from}
WHERE true ON CONFLICT(token) DO NOTHING`
	return writing{one: loneCreate.Replace(sql), many: manyCreates.Replace(sql)}
}

// savingSQL makes the statements that save a row where it still has the version
// that was read. What did not change is left alone: an index on a column that is
// set costs as much as all the rest.
func savingSQL(also string) writing {
	sql := `UPDATE {sessions} AS s SET data={data},version=s.version+{steps},writes={writes}` + also + `
{from} WHERE s.token={token} AND s.version={version} AND s.superseded IS NULL AND s.expiry>?3`
	return writing{one: loneSave.Replace(sql), many: manySaves.Replace(sql)}
}

// commitSQL makes the statements of Commit, an upsert. A token that was deleted
// is left out, unless it may be revived.
func commitSQL(reviveDeleted bool) writing {
	sql := `INSERT INTO {sessions}(token,data,expiry) SELECT {token},{data},{expiry}{from}
WHERE NOT EXISTS(SELECT 1 FROM {ended} e WHERE e.token={token})
ON CONFLICT(token) DO UPDATE SET data=excluded.data,expiry=excluded.expiry,
version=version+1`
	if reviveDeleted {
		sql = strings.Replace(sql, "NOT EXISTS(SELECT 1 FROM {ended} e WHERE e.token={token})", "true", 1)
	}
	return writing{one: loneCommit.Replace(sql), many: manyCommits.Replace(sql)}
}

// textSQL is the SQL expression for the text that hex holds.
func textSQL(hex string) string { return "CAST(unhex(" + hex + ") AS TEXT)" }
