package caddysession

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

const (
	// exportType is one JSON object a line.
	exportType = "application/x-ndjson"

	importRows  = 512      // that go to the store together
	importBytes = 1 << 20  // of lines that go to the store together
	importLine  = 64 << 20 // the longest line

	// importPatience is how long a client may take to send the next lines;
	// Caddy's admin endpoint would give it ten seconds for all of them.
	importPatience = time.Minute
)

// ExportRequest asks for the part of an export that is still missing.
type ExportRequest struct {
	// The token of the last line that is there.
	After string `json:"after"`
}

// adminExport streams the rows of a store, one a line, in the order of their
// tokens. A GET begins at the first, a POST continues an export. A response
// that is not complete breaks off: over HTTP/1.1 without its last chunk.
func adminExport(w http.ResponseWriter, r *http.Request, s namedStore) error {
	var asked ExportRequest
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&asked); err != nil {
			return apiError(http.StatusBadRequest, `the body is {"after": "<token of the last line>"}`)
		}
	}
	w.Header().Set("Content-Type", exportType)
	begun := false
	lines := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(lines)
	err := s.backend.store.Export(r.Context(), asked.After, func(rows []rqlitestore.Row) error {
		begun = true
		for i := range rows {
			if err := encoder.Encode(&rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = lines.Flush()
	}
	switch {
	case err == nil:
		return nil
	case !begun:
		return s.unavailable(err)
	case r.Context().Err() == nil:
		s.backend.log().Error("an export broke off", zap.String("store", s.backend.name), zap.Error(err))
	}
	panic(http.ErrAbortHandler) // nothing else tells the client that it has not got all
}

// ImportResult says what became of the rows of an import.
type ImportResult struct {
	// The name of the store.
	Store string `json:"store"`

	// How many rows were received.
	Received int64 `json:"received"`

	// How many of them the store did not have, or had in an older version. Rows
	// that have expired are left out, and those that went to the store twice,
	// because its answer was lost, are not counted.
	Added int64 `json:"added"`
}

// adminImport takes the rows of an export. Those that the store has already, in
// the same version or a newer one, stay as they are: an import that broke off
// can be sent again.
func adminImport(w http.ResponseWriter, r *http.Request, s namedStore) error {
	result := ImportResult{Store: s.name}
	deadlines := http.NewResponseController(w)
	lines := newLineReader(r.Body)
	for {
		if err := deadlines.SetReadDeadline(time.Now().Add(importPatience)); err != nil {
			return err
		}
		rows, err := readRows(lines)
		if err != nil && !errors.Is(err, io.EOF) {
			return apiError(http.StatusBadRequest, "line %d: %w (rows stored before it: %d)", lines.read, err, result.Received)
		}
		if len(rows) > 0 {
			added, err := s.backend.store.Import(r.Context(), rows)
			if err != nil {
				return s.unavailable(err)
			}
			result.Received += int64(len(rows))
			result.Added += added
		}
		if err != nil {
			return writeJSON(w, result)
		}
	}
}

var errLine = errors.New("this is no row of an export")

// readRows reads as many rows as go to the store together; at the end it
// returns the last ones and io.EOF.
func readRows(lines *lineReader) (rows []rqlitestore.Row, err error) {
	for size := 0; len(rows) < importRows && size < importBytes; {
		line, err := lines.next()
		if err != nil {
			return rows, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		row, err := rowIn(line)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
		size += len(line)
	}
	return rows, nil
}

// rowIn is the row of a line. The error is without what it says: that is a secret.
func rowIn(line []byte) (row rqlitestore.Row, err error) {
	if json.Unmarshal(line, &row) != nil || row.Token == "" {
		return row, errLine
	}
	return row, nil
}

// lineReader reads lines that end with a newline, however long, up to a bound.
type lineReader struct {
	from *bufio.Reader
	read int // lines
	long []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{from: bufio.NewReaderSize(r, 256<<10)}
}

var errLongLine = errors.New("it is longer than any row of an export")

// next returns the next line with its newline; the last one may have none. It
// is good until the next call.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.from.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = l.rest(line)
	}
	if err != nil && len(line) == 0 {
		return nil, err
	}
	l.read++
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return line, nil
}

// rest gathers a line that is longer than the buffer.
func (l *lineReader) rest(begin []byte) ([]byte, error) {
	l.long = append(l.long[:0], begin...)
	for {
		part, err := l.from.ReadSlice('\n')
		l.long = append(l.long, part...)
		if len(l.long) > importLine {
			return l.long, errLongLine
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return l.long, err
		}
	}
}
