package rqlitestore

import "strings"

// statements is the SQL of one table. Values are parameters, without exception;
// ?1 is a JSON array with a row for each caller, so that a statement is the
// same for one row and for hundreds. No SQL function gives the time: on the
// nodes of a cluster it would not be the same.
//
// Statements that write choose their rows by key or in a fixed order, so that
// every node chooses the same.
type statements struct {
	load, current            string
	create, save, touch      string
	supersede, follow, renew string
	resolve, destroy         string
	endOlder                 string
	commit, note, remove     string
	page                     string
	hasExpired               [2]string
	deleteExpired            [2]string
}

func newStatements(table string, reviveDeleted bool) statements {
	r := strings.NewReplacer(
		"{sessions}", `"`+table+`"`,
		"{ended}", `"`+table+`_ended"`,
		"{load}", iif("p.alias IS NULL", recordSQL("p."), recordSQL("s.")),
		"{current}", recordSQL("p."),
		"{record}", recordSQL(""),
		"{since}", iif("p.alias IS NULL", "''", unixMsSQL("p.superseded")),
		"{token}", textSQL("j.value->>0"),
		"{newtoken}", textSQL("j.value->>2"),
		"{id}", textSQL("j.value->>5"),
		"{principal}", textSQL("j.value->>6"),
		"{value}", textSQL("j.value"),
		"{writeid}", "substr(j.value->>8,1,8)",
	)
	st := statements{
		load: `SELECT group_concat(j.key||':'||{since}||':'||
EXISTS(SELECT 1 FROM {sessions} a WHERE a.alias=coalesce(p.alias,p.token) AND a.expiry>?2)||':'||{load},';')
FROM json_each(?1) j CROSS JOIN {sessions} p ON p.token={value} LEFT JOIN {sessions} s ON s.token=p.alias
WHERE p.expiry>?2 AND (p.alias IS NULL OR s.expiry>?2)`,

		current: `SELECT group_concat(j.key||'::'||
EXISTS(SELECT 1 FROM {sessions} a WHERE a.alias=p.token AND a.expiry>?2)||':'||{current},';')
FROM json_each(?1) j CROSS JOIN {sessions} p ON p.id={value}
WHERE p.superseded IS NULL AND p.expiry>?2`,

		create: `INSERT INTO {sessions}(token,data,expiry,id,version,writes,principal,rights)
SELECT {newtoken},unhex(j.value->>9),j.value->>4,{id},1,j.value->>8,{principal},j.value->>7
FROM json_each(?1) j WHERE true ON CONFLICT(token) DO NOTHING`,

		save: `UPDATE {sessions} AS s SET data=unhex(j.value->>9),expiry=j.value->>4,version=j.value->>3,principal={principal},
writes=substr(j.value->>8||coalesce(s.writes,''),1,64)
FROM json_each(?1) j
WHERE s.token={token} AND s.version=j.value->>1 AND s.superseded IS NULL AND s.expiry>?2`,

		touch: `UPDATE {sessions} AS s SET expiry=j.value->>1 FROM json_each(?1) j
WHERE s.id={token} AND s.superseded IS NULL AND s.expiry>?2 AND s.expiry<j.value->>1`,

		// The three statements of a renewal are one transaction. The old row:
		// either in its grace, or an alias that leads to the new one.
		supersede: `UPDATE {sessions} AS s SET superseded=?2,
alias=iif(j.value->>10 IS NULL,NULL,{newtoken}),
data=iif(j.value->>10 IS NULL,s.data,x''),
expiry=iif(j.value->>10 IS NULL,min(s.expiry,?3),j.value->>10),
writes=substr(j.value->>8||coalesce(s.writes,''),1,64)
FROM json_each(?1) j
WHERE s.token={token} AND s.version=j.value->>1 AND s.superseded IS NULL AND s.expiry>?2`,

		// Aliases of the old row lead to the new one, if that was a rotation.
		follow: `UPDATE {sessions} AS s SET alias={newtoken} FROM json_each(?1) j
WHERE s.alias={token} AND j.value->>10 IS NOT NULL
AND EXISTS(SELECT 1 FROM {sessions} o WHERE o.token={token} AND o.superseded IS NOT NULL AND substr(o.writes,1,8)={writeid})`,

		// The new row: only if the old one was superseded by this very write,
		// and only while the session has no current row, so that a request that
		// arrives a second time, however late, adds nothing.
		renew: `INSERT INTO {sessions}(token,data,expiry,id,version,writes,principal,rights)
SELECT {newtoken},unhex(j.value->>9),j.value->>4,o.id,j.value->>3,o.writes,{principal},j.value->>7
FROM json_each(?1) j CROSS JOIN {sessions} o ON o.token={token}
WHERE o.superseded IS NOT NULL AND substr(o.writes,1,8)={writeid}
AND NOT EXISTS(SELECT 1 FROM {sessions} c WHERE c.id=o.id AND c.superseded IS NULL)`,

		// Changes nothing and returns what is there. As a write it goes through
		// the Raft log, behind every write before it, whatever the consistency
		// level of the connection. rqlite looks for "returning " with the space.
		resolve: `UPDATE {sessions} SET version=version
WHERE id IN (SELECT {value} FROM json_each(?1) j) AND superseded IS NULL AND expiry>?2 RETURNING {record}`,

		destroy: `DELETE FROM {sessions} WHERE id IN (SELECT {value} FROM json_each(?1) j)`,

		endOlder: `UPDATE {sessions} SET expiry=min(expiry,?3)
WHERE id=` + textSQL("?1") + ` AND alias IS NOT NULL AND token<>` + textSQL("?2") + `
AND superseded<coalesce((SELECT n.superseded FROM {sessions} n WHERE n.token=` + textSQL("?2") + ` AND n.alias IS NOT NULL),1e9)`,

		commit: `INSERT INTO {sessions}(token,data,expiry) SELECT {token},unhex(j.value->>2),j.value->>1
FROM json_each(?1) j WHERE NOT EXISTS(SELECT 1 FROM {ended} e WHERE e.token={token})
ON CONFLICT(token) DO UPDATE SET data=excluded.data,expiry=excluded.expiry,
version=version+1,writes=iif(version IS NULL,NULL,substr('` + otherWriteID + `'||coalesce(writes,''),1,64))`,

		note: `INSERT INTO {ended}(token,expiry)
SELECT {value},max(?2,coalesce((SELECT s.expiry FROM {sessions} s WHERE s.token={value}),0)) FROM json_each(?1) j WHERE true
ON CONFLICT(token) DO UPDATE SET expiry=max(expiry,excluded.expiry)`,

		remove: `DELETE FROM {sessions} WHERE token IN (SELECT {value} FROM json_each(?1) j)`,

		page: `SELECT group_concat({record},';') FROM (
SELECT *,sum(length(data)) OVER (ORDER BY token ROWS UNBOUNDED PRECEDING)-length(data) AS before FROM (
SELECT * FROM {sessions} WHERE token>=` + textSQL("?1") + ` AND superseded IS NULL AND expiry>?2 ORDER BY token LIMIT ?3))
WHERE before<?4`,
	}
	if reviveDeleted {
		st.commit = strings.Replace(st.commit, "NOT EXISTS(SELECT 1 FROM {ended} e WHERE e.token={token})", "true", 1)
	}
	for i, t := range []string{"{sessions}", "{ended}"} {
		st.hasExpired[i] = `SELECT EXISTS(SELECT 1 FROM ` + t + ` WHERE expiry<=?1)||''`
		st.deleteExpired[i] = `DELETE FROM ` + t + ` WHERE token IN
(SELECT token FROM ` + t + ` WHERE expiry<=?1 ORDER BY expiry,token LIMIT ?2)`
	}
	for _, sql := range []*string{
		&st.load, &st.current, &st.create, &st.save, &st.touch, &st.supersede, &st.follow, &st.renew, &st.resolve,
		&st.destroy, &st.endOlder, &st.commit, &st.note, &st.remove, &st.page,
		&st.hasExpired[0], &st.hasExpired[1], &st.deleteExpired[0], &st.deleteExpired[1],
	} {
		*sql = r.Replace(*sql)
	}
	return st
}

// textSQL is the SQL expression for the text that hex holds.
func textSQL(hex string) string { return "CAST(unhex(" + hex + ") AS TEXT)" }

func iif(condition, yes, no string) string { return "iif(" + condition + "," + yes + "," + no + ")" }
