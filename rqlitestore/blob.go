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

// tail is how every row ends: the lengths of its texts and of the data, the expiry,
// then the texts and the data.
type tail struct {
	lengths []field
	expiry  field
}

const (
	textLenWidth = 8
	dataLenWidth = 10
	expiryWidth  = 18
)

// tailAt is the tail with so many texts that begins at a place.
func tailAt(at, texts int) (t tail) {
	for range texts {
		t.lengths = append(t.lengths, field{at, textLenWidth})
		at += textLenWidth
	}
	length := field{at, dataLenWidth}
	return tail{append(t.lengths, length), field{length.end(), expiryWidth}}
}

func appendTail(b []byte, expiry time.Time, data []byte, texts ...string) []byte {
	for _, text := range texts {
		b = appendPadded(b, int64(len(text)), textLenWidth)
	}
	b = appendPadded(b, int64(len(data)), dataLenWidth)
	b = appendJulian(b, expiry)
	for _, text := range texts {
		b = append(b, text...)
	}
	return append(b, data...)
}

const mostTexts = 3

// cut returns the texts of a row, and behind them its data.
func (t tail) cut(row []byte) (parts [mostTexts + 1][]byte) {
	at := t.expiry.end()
	for i, length := range t.lengths {
		end := at + length.int(row)
		parts[i], at = row[at:end], end
	}
	return parts
}

// sql is the expressions for the texts of the row that begins at j.value, and
// behind them for its data.
func (t tail) sql() (parts []string) {
	from := "j.value+" + strconv.Itoa(t.expiry.end())
	for _, length := range t.lengths {
		parts = append(parts, "substr(?2,"+from+","+length.intSQL()+")")
		from += "+" + length.intSQL()
	}
	return parts
}

// A row of a commit is the token and the data.
var commitTail = tailAt(0, 1)

func commitRow(token string, data []byte, expiry time.Time) []byte {
	return appendTail(make([]byte, 0, commitTail.expiry.end()+len(token)+len(data)), expiry, data, token)
}

// splitCommitRow makes the parameters of a statement that commits one row.
func splitCommitRow(row []byte) []any {
	parts := commitTail.cut(row)
	return []any{blob(parts[0]), commitTail.expiry.of(row), blobOf(parts[1])}
}

// A row of a create: the rights, what the create leaves in the row, then token, id,
// principal and data.
var (
	createRights  = field{0, 16}
	createWriteID = field{createRights.end(), writeIDLen}
	createTail    = tailAt(createWriteID.end(), 3)
)

func createRow(rec Record, writeID string) []byte {
	b := make([]byte, 0, createTail.expiry.end()+len(rec.Token)+len(rec.ID)+len(rec.Principal)+len(rec.Data))
	b = appendPadded(b, rec.Rights, createRights.width)
	b = append(b, writeID...)
	return appendTail(b, rec.Expiry, rec.Data, rec.Token, rec.ID, rec.Principal)
}

// splitCreateRow makes the parameters of a statement that creates one row.
func splitCreateRow(row []byte) []any {
	parts := createTail.cut(row)
	return []any{
		blob(parts[0]), createTail.expiry.of(row), createRights.int(row), createWriteID.of(row),
		blob(parts[1]), blob(parts[2]), blobOf(parts[3]),
	}
}

// A row of a save: the version that is there now and by how much it grows, what
// the save leaves in the row, then token, principal and data.
var (
	saveVersion = field{0, 16}
	saveSteps   = field{saveVersion.end(), 4}
	saveWriteID = field{saveSteps.end(), writeIDLen}
	saveTail    = tailAt(saveWriteID.end(), 2)
)

func saveRow(old, rec Record, writeID string) []byte {
	b := make([]byte, 0, saveTail.expiry.end()+len(old.Token)+len(rec.Principal)+len(rec.Data))
	b = appendPadded(b, old.Version, saveVersion.width)
	b = appendPadded(b, rec.Version-old.Version, saveSteps.width)
	b = append(b, writeID...)
	return appendTail(b, rec.Expiry, rec.Data, old.Token, rec.Principal)
}

// splitSaveRow makes the parameters of a statement that saves one row.
func splitSaveRow(row []byte, now float64) []any {
	parts := saveTail.cut(row)
	return []any{
		blob(parts[0]), saveTail.expiry.of(row), now, saveVersion.of(row), saveSteps.int(row),
		saveWriteID.of(row),
		blob(parts[1]), blobOf(parts[2]),
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
	manyCommits = commitTail.replacer(
		"{token}", textOf(commitTail.sql()[0]),
	)
	loneCommit = strings.NewReplacer(
		"{token}", textOf("?1"), "{expiry}", "?2", "{data}", "?3", "{from}", "",
	)
	manyCreates = createTail.replacer(
		"{token}", textOf(createTail.sql()[0]),
		"{rights}", createRights.intSQL(),
		"{writes}", textOf(createWriteID.sql()),
		"{id}", textOf(createTail.sql()[1]),
		"{principal}", principalOf(createTail.sql()[2]),
	)
	loneCreate = strings.NewReplacer(
		"{token}", textOf("?1"), "{expiry}", "?2", "{rights}", "?3", "{writes}", "?4", "{id}", textOf("?5"),
		"{principal}", principalOf("?6"), "{data}", "?7", "{from}", "",
	)
	manySaves = saveTail.replacer(
		"{token}", textOf(saveTail.sql()[0]),
		"{version}", saveVersion.intSQL(),
		"{steps}", saveSteps.intSQL(),
		"{writes}", writesSQL(saveWriteID.sql(), "s.writes"),
		"{principal}", principalOf(saveTail.sql()[1]),
	)
	loneSave = strings.NewReplacer(
		"{token}", textOf("?1"), "{expiry}", "?2", "{version}", "?4", "{steps}", "?5", "{writes}", writesSQL("?6", "s.writes"),
		"{principal}", principalOf("?7"), "{data}", "?8", "{from}", "",
	)
)

// replacer puts what every row of many has into a statement, and these fields.
func (t tail) replacer(fields ...string) *strings.Replacer {
	parts := t.sql()
	return strings.NewReplacer(append(fields,
		"{expiry}", "CAST("+t.expiry.sql()+" AS REAL)",
		"{data}", parts[len(parts)-1],
		"{from}", " FROM json_each(?1) j",
	)...)
}

// principalOf is the SQL expression for a blob as a principal.
func principalOf(blob string) string { return "nullif(" + textOf(blob) + ",'')" }

// textOf is the SQL expression for a blob as text.
func textOf(blob string) string { return "CAST(" + blob + " AS TEXT)" }
