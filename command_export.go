package caddysession

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

const (
	partialSuffix = ".partial"
	originSuffix  = ".partial.of"

	// movePatience is how long an export or an import waits for a Caddy that
	// does not answer, or a store that is down.
	movePatience = 30 * time.Second
	movePause    = 500 * time.Millisecond
)

func exportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export <file> [--restart]",
		Short: "Writes all sessions to a file",
		Long: `
Writes all sessions to a file, one row of the table as JSON a line, for "caddy
session import". The file is a secret: it has the values of the sessions, in
plain text unless they are sealed by keys.

While it is written its name ends in ` + partialSuffix + `. An export that was interrupted
goes on from there when it is called again; --restart begins anew. It is no
snapshot: sessions that change meanwhile are in it as they were at one moment or
another.

With - it writes to the standard output.`,
		Args: takes(1, "one file, or - for the standard output"),
		RunE: run(exportSessions),
	}
	cmd.Flags().Bool("restart", false, "Do not go on with an export that was interrupted")
	return cmd
}

func exportSessions(c *client, fl caddycmd.Flags) error {
	if _, err := c.findStore(); err != nil {
		return err
	}
	x := &exporter{client: c}
	if file := fl.Arg(0); file != "-" {
		return x.toFile(file, fl.Bool("restart"))
	}
	return x.run(c.out)
}

// findStore finds out the name of the store, and whether it has no session.
func (c *client) findStore() (empty bool, err error) {
	var first ListResult
	if err := c.get("sessions", url.Values{"limit": {"1"}}, &first); err != nil {
		return false, err
	}
	c.store = first.Store
	return len(first.Sessions) == 0, nil
}

// toFile exports to a file, going on with what an export before has left.
func (x *exporter) toFile(file string, restart bool) error {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s is there already: remove it, or name another file", file)
	}
	out, err := x.openPartial(file, restart)
	if err != nil {
		return err
	}
	defer out.Close()
	if x.done, x.last, err = resume(out); err != nil {
		return fmt.Errorf("going on with %s: %w: begin anew with --restart", out.Name(), err)
	}
	if x.done > 0 {
		fmt.Fprintf(x.notes, "going on with %s, which has %s\n", out.Name(), counted(x.done, "row"))
	}
	if err := x.run(out); err != nil {
		return fmt.Errorf("%w; call this again to go on", err)
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(file+partialSuffix, file), os.Remove(file+originSuffix)); err != nil {
		return err
	}
	fmt.Fprintf(x.notes, "%s written to %s; keep it as secret as the sessions are\n", counted(x.done, "row"), file)
	return nil
}

// openPartial opens the file that is written to. Beside it stands which store
// it is of: the sessions of two must not come into one file.
func (x *exporter) openPartial(file string, restart bool) (*os.File, error) {
	origin := fmt.Sprintf("%s at %s\n", x.store, x.address)
	before, err := os.ReadFile(file + originSuffix)
	if err == nil && string(before) != origin && !restart {
		return nil, fmt.Errorf("%s is of the store %s: name another file, or begin anew with --restart", file+partialSuffix, bytes.TrimSpace(before))
	}
	flags := os.O_RDWR | os.O_CREATE
	if restart || err != nil {
		// Not into what lies there: a link to another file, or one that others may read.
		for _, suffix := range []string{partialSuffix, originSuffix} {
			if err := os.Remove(file + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
		flags |= os.O_EXCL
	}
	out, err := os.OpenFile(file+partialSuffix, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return out, os.WriteFile(file+originSuffix, []byte(origin), 0o600)
}

// resume cuts off a line that was written in part, and finds out which is the
// last one before it.
func resume(file *os.File) (rows int64, last string, err error) {
	lines := newLineReader(file)
	var end int64
	var newest []byte
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) || err == nil && !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		if err != nil {
			return 0, "", err
		}
		rows++
		end += int64(len(line))
		newest = append(newest[:0], line...)
	}
	if rows > 0 {
		row, err := rowIn(newest)
		if err != nil {
			return 0, "", err
		}
		last = row.Token
	}
	if err := file.Truncate(end); err != nil {
		return 0, "", err
	}
	_, err = file.Seek(end, io.SeekStart)
	return rows, last, err
}

// exporter writes rows as they come, and asks again where an answer breaks off.
type exporter struct {
	*client
	to   *bufio.Writer
	bar  *progress
	done int64
	last string // the token of the last line
}

func (x *exporter) run(to io.Writer) error {
	x.to = bufio.NewWriterSize(to, 256<<10)
	x.bar = newProgress(x.notes, "exporting", " sessions", x.done)
	defer x.bar.done()
	if x.bar.to != nil {
		go x.count()
	}
	var trying patience
	for {
		before := x.done
		err := x.request()
		if written := x.to.Flush(); written != nil {
			return written // a full disk, say: asking Caddy again does not help
		}
		if err == nil {
			return nil
		}
		if x.done > before {
			trying.renew()
		}
		if !trying.pause(err) {
			return err
		}
	}
}

// count finds out about how many rows there will be: it reads all of the table,
// so nobody waits for it.
func (x *exporter) count() {
	var count CountResult
	if x.get("count", nil, &count) == nil { // the bar does without
		x.bar.total.Store(count.Sessions)
	}
}

// request takes one answer to its end.
func (x *exporter) request() error {
	body, err := json.Marshal(ExportRequest{After: x.last})
	if err != nil {
		return err
	}
	res, err := x.send(http.MethodPost, "export", nil, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := newLineReader(res.Body)
	var newest []byte
	for {
		line, err := lines.next()
		if err != nil {
			return x.ended(newest, err)
		}
		if !bytes.HasSuffix(line, []byte("\n")) {
			return x.ended(newest, io.ErrUnexpectedEOF)
		}
		if _, err := x.to.WriteString(escapeControls(line)); err != nil { // names of users are in it, and a terminal may show them
			return lastingError{err}
		}
		newest = append(newest[:0], line...)
		x.done++
		x.bar.at(x.done)
	}
}

// ended notes how far an answer came.
func (x *exporter) ended(newest []byte, why error) error {
	if len(newest) > 0 {
		row, err := rowIn(newest)
		if err != nil {
			return lastingError{err} // no export: asking again does not help
		}
		x.last = row.Token
	}
	if errors.Is(why, io.EOF) {
		return nil
	}
	return fmt.Errorf("the export broke off: %w", why)
}

// lastingError is an error that stays, however often it is tried.
type lastingError struct{ error }

func (e lastingError) Unwrap() error { return e.error }

// patience bounds how long something is tried in vain.
type patience struct{ until time.Time }

func (p *patience) renew() { p.until = time.Time{} }

// pause waits a little, if the same may work later.
func (p *patience) pause(err error) bool {
	if p.until.IsZero() {
		p.until = time.Now().Add(movePatience)
	}
	if !mayPass(err) || time.Now().After(p.until) {
		return false
	}
	time.Sleep(movePause)
	return true
}
