package caddysession

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

const (
	partialSuffix = ".partial"

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

While it is written it is called <file>` + partialSuffix + `. An export that was interrupted
goes on from there when it is called again; --restart begins anew. It is no
snapshot: sessions that change meanwhile are in it as they were at one moment or
another.

With - it writes to the standard output.`,
		Args: cobra.ExactArgs(1),
		RunE: run(exportSessions),
	}
	cmd.Flags().Bool("restart", false, "Do not go on with an export that was interrupted")
	return cmd
}

func exportSessions(c *client, fl caddycmd.Flags) error {
	file := fl.Arg(0)
	if file == "-" {
		x := &exporter{client: c, to: bufio.NewWriter(c.out), bar: newProgress(c.notes, "exporting", "sessions", 0, c.total())}
		return x.run()
	}
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s is there already: remove it, or name another file", file)
	}
	out, err := openPartial(file+partialSuffix, fl.Bool("restart"))
	if err != nil {
		return err
	}
	defer out.Close()
	done, last, err := resume(out)
	if err != nil {
		return fmt.Errorf("going on with %s: %w: remove it, or begin anew with --restart", out.Name(), err)
	}
	if done > 0 {
		fmt.Fprintf(c.notes, "going on with %s, which has %s\n", out.Name(), counted(done, "row"))
	}
	x := &exporter{client: c, to: bufio.NewWriterSize(out, 256<<10), done: done, last: last, bar: newProgress(c.notes, "exporting", "sessions", done, c.total())}
	if err := x.run(); err != nil {
		return fmt.Errorf("%w; call this again to go on after %s", err, counted(x.done, "row"))
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(file+partialSuffix, file); err != nil {
		return err
	}
	fmt.Fprintf(c.notes, "%s written to %s; keep it as secret as the sessions are\n", counted(x.done, "row"), file)
	return nil
}

// total is about how many rows there will be; 0 if that cannot be told now.
func (c *client) total() int64 {
	var count CountResult
	if c.get("count", nil, &count) != nil {
		return 0 // the export itself will say why
	}
	return count.Sessions
}

func openPartial(name string, restart bool) (*os.File, error) {
	flags := os.O_RDWR | os.O_CREATE
	if restart {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(name, flags, 0o600)
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
		if last, err = tokenOf(newest); err != nil {
			return 0, "", err
		}
	}
	if err := file.Truncate(end); err != nil {
		return 0, "", err
	}
	_, err = file.Seek(end, io.SeekStart)
	return rows, last, err
}

func tokenOf(line []byte) (string, error) {
	var row rqlitestore.Row
	if json.Unmarshal(line, &row) != nil || row.Token == "" {
		return "", errLine
	}
	return row.Token, nil
}

// exporter writes rows as they come, and asks again where an answer breaks off.
type exporter struct {
	*client
	to   *bufio.Writer
	bar  *progress
	done int64
	last string // the token of the last line
}

func (x *exporter) run() error {
	defer x.bar.done()
	for patience := (patience{}); ; {
		before := x.done
		err := errors.Join(x.request(), x.to.Flush())
		if err == nil {
			return nil
		}
		if x.done > before {
			patience.renew()
		}
		if !patience.pause(err) {
			return err
		}
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
		if _, err := x.to.Write(line); err != nil {
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
		token, err := tokenOf(newest)
		if err != nil {
			return lastingError{err} // no export: asking again does not help
		}
		x.last = token
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
	if !mayPass(err) || errors.As(err, &lastingError{}) || time.Now().After(p.until) {
		return false
	}
	time.Sleep(movePause)
	return true
}
