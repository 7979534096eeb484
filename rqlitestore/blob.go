package rqlitestore

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// The rows of a commit, a create and a save travel one behind the other in one blob,
// ?2, and ?1 is a JSON array of where each begins: the database gets half as many
// bytes into its log as in hex, and parses no more JSON than these numbers. The
// fields of a row are cut out of the blob by their places. Those of a fixed width
// are in front: numbers are decimals with zeros before them.

// field is a field of fixed width: where it begins, from 0, and its width.
type field struct{ at, width int }

// end is where the next field begins.
func (f field) end() int { return f.at + f.width }

// of cuts the field out of a row.
func (f field) of(row []byte) string { return string(row[f.at:f.end()]) }

func (f field) int(row []byte) int {
	n, _ := strconv.Atoi(f.of(row)) // this package wrote it
	return n
}

// sql is the expression for the field of the row that begins at j.value.
func (f field) sql() string {
	return "substr(?2,j.value+" + strconv.Itoa(f.at) + "," + strconv.Itoa(f.width) + ")"
}

func (f field) intSQL() string { return "CAST(" + f.sql() + " AS INTEGER)" }

// A row of a commit: the lengths of token and data, the expiry, then these two.
var (
	commitTokenLen = field{0, 8}
	commitDataLen  = field{commitTokenLen.end(), 10}
	commitExpiry   = field{commitDataLen.end(), 18}
	commitToken    = commitExpiry.end()
)

func commitRow(token string, data []byte, expiry time.Time) []byte {
	b := make([]byte, 0, commitToken+len(token)+len(data))
	b = appendPadded(b, int64(len(token)), commitTokenLen.width)
	b = appendPadded(b, int64(len(data)), commitDataLen.width)
	b = appendJulian(b, expiry)
	b = append(b, token...)
	return append(b, data...)
}

// splitCommitRow makes the parameters of a statement that commits one row.
func splitCommitRow(row []byte) []any {
	data := commitToken + commitTokenLen.int(row)
	return []any{blob(row[commitToken:data]), commitExpiry.of(row), blobOf(row[data:])}
}

// A row of a create: the rights, what the create leaves in the row, the lengths of
// token, id, principal and data, the expiry, then these four.
var (
	createRights       = field{0, 16}
	createWriteID      = field{createRights.end(), writeIDLen}
	createTokenLen     = field{createWriteID.end(), 8}
	createIDLen        = field{createTokenLen.end(), 8}
	createPrincipalLen = field{createIDLen.end(), 8}
	createDataLen      = field{createPrincipalLen.end(), 10}
	createExpiry       = field{createDataLen.end(), 18}
	createToken        = createExpiry.end()
)

func createRow(rec Record, writeID string) []byte {
	b := make([]byte, 0, createToken+len(rec.Token)+len(rec.ID)+len(rec.Principal)+len(rec.Data))
	b = appendPadded(b, rec.Rights, createRights.width)
	b = append(b, writeID...)
	b = appendPadded(b, int64(len(rec.Token)), createTokenLen.width)
	b = appendPadded(b, int64(len(rec.ID)), createIDLen.width)
	b = appendPadded(b, int64(len(rec.Principal)), createPrincipalLen.width)
	b = appendPadded(b, int64(len(rec.Data)), createDataLen.width)
	b = appendJulian(b, rec.Expiry)
	b = append(b, rec.Token...)
	b = append(b, rec.ID...)
	b = append(b, rec.Principal...)
	return append(b, rec.Data...)
}

// splitCreateRow makes the parameters of a statement that creates one row.
func splitCreateRow(row []byte) []any {
	id := createToken + createTokenLen.int(row)
	principal := id + createIDLen.int(row)
	data := principal + createPrincipalLen.int(row)
	return []any{
		blob(row[createToken:id]), createExpiry.of(row), createRights.int(row), createWriteID.of(row),
		blob(row[id:principal]), blob(row[principal:data]), blobOf(row[data:]),
	}
}

// A row of a save: the version that is there now and by how much it grows, what
// the save leaves in the row, the lengths of token, principal and data, the
// expiry, then these three.
var (
	saveVersion      = field{0, 16}
	saveSteps        = field{saveVersion.end(), 4}
	saveWriteID      = field{saveSteps.end(), writeIDLen}
	saveTokenLen     = field{saveWriteID.end(), 8}
	savePrincipalLen = field{saveTokenLen.end(), 8}
	saveDataLen      = field{savePrincipalLen.end(), 10}
	saveExpiry       = field{saveDataLen.end(), 18}
	saveToken        = saveExpiry.end()
)

func saveRow(old, rec Record, writeID string) []byte {
	b := make([]byte, 0, saveToken+len(old.Token)+len(rec.Principal)+len(rec.Data))
	b = appendPadded(b, old.Version, saveVersion.width)
	b = appendPadded(b, rec.Version-old.Version, saveSteps.width)
	b = append(b, writeID...)
	b = appendPadded(b, int64(len(old.Token)), saveTokenLen.width)
	b = appendPadded(b, int64(len(rec.Principal)), savePrincipalLen.width)
	b = appendPadded(b, int64(len(rec.Data)), saveDataLen.width)
	b = appendJulian(b, rec.Expiry)
	b = append(b, old.Token...)
	b = append(b, rec.Principal...)
	return append(b, rec.Data...)
}

// splitSaveRow makes the parameters of a statement that saves one row.
func splitSaveRow(row []byte, now float64) []any {
	steps := saveSteps.int(row)
	principal := saveToken + saveTokenLen.int(row)
	data := principal + savePrincipalLen.int(row)
	return []any{
		blob(row[saveToken:principal]), saveExpiry.of(row), now, saveVersion.of(row), steps,
		saveWriteID.of(row),
		blob(row[principal:data]), blobOf(row[data:]),
	}
}

// blob returns b as a parameter of the form that rqlite makes a blob of.
func blob[T string | []byte](b T) string { return string(blobOf([]byte(b))) }

// blobOf is blob for what may be large.
func blobOf(b []byte) hexBlob {
	out := append(make(hexBlob, 0, 2*len(b)+3), "x'"...)
	return append(hex.AppendEncode(out, b), '\'')
}

// joinBlob makes the two parameters that the rows of calls travel in: where each
// begins, from 1 as SQL counts, and all of them as one blob.
func joinBlob[A any](calls []*call[A]) (starts string, rows hexBlob) {
	size := 0
	for _, c := range calls {
		size += len(c.row)
	}
	begin := make([]byte, 0, 8*len(calls)+2)
	rows = append(make(hexBlob, 0, 2*size+3), "x'"...)
	at, sep := 1, byte('[')
	for _, c := range calls {
		begin = strconv.AppendInt(append(begin, sep), int64(at), 10)
		rows = hex.AppendEncode(rows, c.row)
		at += len(c.row)
		sep = ','
	}
	return string(append(begin, ']')), append(rows, '\'')
}

// hexBlob is a parameter of the form that rqlite makes a blob of, x'0aff'. It may
// be large, and so goes into the request's JSON as it is.
type hexBlob []byte

// MarshalText implements encoding.TextMarshaler.
func (b hexBlob) MarshalText() ([]byte, error) { return b, nil }

// Where the fields of a row are found: in the blob of many, or in the parameters
// of a lone one, which splitCommitRow, splitCreateRow and splitSaveRow make.
var (
	manyCommits = strings.NewReplacer(
		"{token}", textOf("substr(?2,j.value+"+strconv.Itoa(commitToken)+","+commitTokenLen.intSQL()+")"),
		"{expiry}", "CAST("+commitExpiry.sql()+" AS REAL)",
		"{data}", "substr(?2,j.value+"+strconv.Itoa(commitToken)+"+"+commitTokenLen.intSQL()+","+commitDataLen.intSQL()+")",
		"{from}", " FROM json_each(?1) j",
	)
	loneCommit = strings.NewReplacer(
		"{token}", textOf("?1"), "{expiry}", "?2", "{data}", "?3", "{from}", "",
	)
	manyCreates = strings.NewReplacer(
		"{token}", textOf("substr(?2,j.value+"+strconv.Itoa(createToken)+","+createTokenLen.intSQL()+")"),
		"{expiry}", "CAST("+createExpiry.sql()+" AS REAL)",
		"{rights}", createRights.intSQL(),
		"{writes}", textOf(createWriteID.sql()),
		"{id}", textOf("substr(?2,j.value+"+strconv.Itoa(createToken)+"+"+createTokenLen.intSQL()+","+createIDLen.intSQL()+")"),
		"{principal}", "nullif("+textOf("substr(?2,j.value+"+strconv.Itoa(createToken)+"+"+createTokenLen.intSQL()+"+"+createIDLen.intSQL()+","+createPrincipalLen.intSQL()+")")+",'')",
		"{data}", "substr(?2,j.value+"+strconv.Itoa(createToken)+"+"+createTokenLen.intSQL()+"+"+createIDLen.intSQL()+"+"+createPrincipalLen.intSQL()+","+createDataLen.intSQL()+")",
		"{from}", " FROM json_each(?1) j",
	)
	loneCreate = strings.NewReplacer(
		"{token}", textOf("?1"), "{expiry}", "?2", "{rights}", "?3", "{writes}", "?4", "{id}", textOf("?5"),
		"{principal}", "nullif("+textOf("?6")+",'')", "{data}", "?7", "{from}", "",
	)
	manySaves = strings.NewReplacer(
		"{token}", textOf("substr(?2,j.value+"+strconv.Itoa(saveToken)+","+saveTokenLen.intSQL()+")"),
		"{expiry}", "CAST("+saveExpiry.sql()+" AS REAL)",
		"{version}", saveVersion.intSQL(),
		"{steps}", saveSteps.intSQL(),
		"{writes}", writesSQL(saveWriteID.sql(), "s.writes"),
		"{principal}", "nullif("+textOf("substr(?2,j.value+"+strconv.Itoa(saveToken)+"+"+saveTokenLen.intSQL()+","+savePrincipalLen.intSQL()+")")+",'')",
		"{data}", "substr(?2,j.value+"+strconv.Itoa(saveToken)+"+"+saveTokenLen.intSQL()+"+"+savePrincipalLen.intSQL()+","+saveDataLen.intSQL()+")",
		"{from}", " FROM json_each(?1) j",
	)
	loneSave = strings.NewReplacer(
		"{token}", textOf("?1"), "{expiry}", "?2", "{version}", "?4", "{steps}", "?5", "{writes}", writesSQL("?6", "s.writes"),
		"{principal}", "nullif("+textOf("?7")+",'')", "{data}", "?8", "{from}", "",
	)
)

// textOf is the SQL expression for a blob as text.
func textOf(blob string) string { return "CAST(" + blob + " AS TEXT)" }
