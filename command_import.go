package caddysession

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

const (
	importedSuffix = ".imported"

	// A chunk is what goes to Caddy in one request. It is small enough to be
	// sent again, and large enough for the requests not to count.
	chunkBytes = 4 << 20
	chunkLines = 2048
)

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import <file> [--restart] [--json]",
		Short: "Reads sessions from a file",
		Long: `
Reads the sessions of a file that "caddy session export" wrote into the store.
What the store has already, in the same version or a newer one, stays as it is,
and what has expired by the clock of this Caddy is left out. Do it before the
store is in use, and once: sessions that were ended there since would come back.
Rows that have to be sent again, because an answer was lost, count as there
already.

How far it has come is noted beside the file, in one of its name with ` + importedSuffix + `
behind it, so that an import that was interrupted goes on from there when it is
called again; --restart begins anew.
With - it reads the standard input, and notes nothing.`,
		Args: takes(1, "one file, or - for the standard input"),
		RunE: run(importSessions),
	}
	cmd.Flags().Bool("restart", false, "Do not go on with an import that was interrupted")
	jsonFlag(cmd)
	return cmd
}

// imported is how far the import of a file has come.
type imported struct {
	Address  string    `json:"address"`  // of the Caddy that it goes to
	Store    string    `json:"store"`    // that they go to
	Size     int64     `json:"size"`     // of the file
	Modified time.Time `json:"modified"` // of the file
	Offset   int64     `json:"offset"`   // what is before it is imported
	Received int64     `json:"received"` // so many rows
	Added    int64     `json:"added"`    // so many of them were added
	Again    bool      `json:"again"`    // rows were sent again of which it is not known whether they had been stored
}

func importSessions(c *client, fl caddycmd.Flags) error {
	empty, err := c.findStore()
	if err != nil {
		return err
	}
	m := &importer{client: c, empty: empty}
	if name := fl.Arg(0); name == "-" {
		m.from = os.Stdin
	} else {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := m.open(file, fl.Bool("restart")); err != nil {
			return err
		}
	}
	if err := m.run(); err != nil {
		return err
	}
	if fl.Bool("json") {
		return c.printJSON(ImportResult{m.store, m.state.Received, m.state.Added})
	}
	others := "were there already or have expired"
	if m.state.Again {
		others = "were there already, have expired, or were sent twice because the import was interrupted"
	}
	fmt.Fprintf(c.notes, "%s read into %s: %d added, %d %s\n",
		counted(m.state.Received, "row"), m.store, m.state.Added, m.state.Received-m.state.Added, others)
	return nil
}

// importer sends a file in chunks.
type importer struct {
	*client
	from      io.Reader
	stateFile string // says how far it has come; "" = none
	state     imported
	empty     bool // the store has no sessions
}

// open prepares to read a file from where the last import of it was interrupted.
func (m *importer) open(file *os.File, restart bool) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	m.from, m.stateFile = file, file.Name()+importedSuffix
	m.state = imported{Address: m.address, Store: m.store, Size: info.Size(), Modified: info.ModTime()}
	noted, err := os.ReadFile(m.stateFile)
	if err != nil || restart {
		return nil //nolint:nilerr // without notes it begins at the beginning
	}
	var before imported
	if json.Unmarshal(noted, &before) != nil {
		return nil // notes that cannot be read are none
	}
	same := m.state
	same.Offset, same.Received, same.Added, same.Again = before.Offset, before.Received, before.Added, before.Again
	if same.Modified.Equal(before.Modified) {
		same.Modified = before.Modified
	}
	if same != before || m.empty && before.Added > 0 {
		return nil // another file, or it goes somewhere else
	}
	if _, err := file.Seek(before.Offset, io.SeekStart); err != nil {
		return err
	}
	m.state = before
	m.state.Again = true
	fmt.Fprintf(m.notes, "going on after %s\n", counted(before.Received, "row"))
	return nil
}

func (m *importer) run() error {
	bar := newProgress(m.notes, "importing", "", m.state.Offset)
	bar.number = func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
	bar.total.Store(m.state.Size)
	defer bar.done()
	lines := newLineReader(m.from)
	for {
		chunk, end, err := nextChunk(lines)
		if err != nil {
			return err
		}
		if m.state.Offset == 0 && isReencoded(chunk) {
			return errors.New("the file begins with a byte order mark: a program has changed it on its way, as > of Windows PowerShell does; let export write to a file, not to -")
		}
		if len(chunk) > 0 {
			if err := m.sendChunk(chunk); err != nil {
				return err
			}
			bar.at(m.state.Offset)
		}
		if end {
			return m.removeState()
		}
	}
}

// isReencoded reports whether text begins with a byte order mark, of UTF-16 or UTF-8.
func isReencoded(text []byte) bool {
	return slices.ContainsFunc([]string{"\xff\xfe", "\xfe\xff", "\xef\xbb\xbf"}, func(mark string) bool {
		return bytes.HasPrefix(text, []byte(mark))
	})
}

// nextChunk reads whole lines.
func nextChunk(lines *lineReader) (chunk []byte, end bool, err error) {
	var b bytes.Buffer
	for n := 0; n < chunkLines && b.Len() < chunkBytes; n++ {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return b.Bytes(), true, nil
		}
		if err != nil {
			return nil, false, err
		}
		b.Write(line)
	}
	return b.Bytes(), false, nil
}

// sendChunk sends a chunk until it is stored: it may be sent any number of times.
func (m *importer) sendChunk(chunk []byte) error {
	var result ImportResult
	var trying patience
	for {
		err := m.call(http.MethodPost, "import", nil, bytes.NewReader(chunk), &result)
		if err == nil {
			break
		}
		if !trying.pause(err) {
			return fmt.Errorf("%s%w%s", m.soFar(err), err, goOn(err))
		}
		m.state.Again = true
	}
	m.state.Offset += int64(len(chunk))
	m.state.Received += result.Received
	m.state.Added += result.Added
	m.saveState()
	return nil
}

// soFar says what the chunks before have brought, and that an answer counts its
// lines from there: each chunk has its own.
func (m *importer) soFar(err error) string {
	switch {
	case m.state.Offset == 0:
		return ""
	case mayPass(err):
		return fmt.Sprintf("after %s, which stay: ", counted(m.state.Received, "row"))
	}
	return fmt.Sprintf("after %s, which stay, and counted from there: ", counted(m.state.Received, "row"))
}

// goOn says that calling the command again helps, where it does.
func goOn(err error) string {
	if mayPass(err) {
		return "; call this again to go on"
	}
	return ""
}

// saveState writes down how far it has come. Where it cannot, in a folder that is
// read-only or on a full disk, the import goes on without: rows may come twice.
func (m *importer) saveState() {
	if m.stateFile == "" {
		return
	}
	noted, err := json.Marshal(m.state)
	if err == nil {
		err = os.WriteFile(m.stateFile+".new", noted, 0o600)
	}
	if err == nil {
		err = os.Rename(m.stateFile+".new", m.stateFile)
	}
	if err != nil {
		fmt.Fprintf(m.notes, "how far the import has come cannot be noted, so one that is interrupted begins anew: %v\n", err)
		_, _ = os.Remove(m.stateFile), os.Remove(m.stateFile+".new")
		m.stateFile = ""
	}
}

// removeState removes the state of an import that is done.
func (m *importer) removeState() error {
	if m.stateFile == "" {
		return nil
	}
	if err := os.Remove(m.stateFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
