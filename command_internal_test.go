package caddysession

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func TestProgress_saysHowFarItIs(t *testing.T) {
	begun := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	p := &progress{doing: "exporting", what: " sessions", number: humanize.Comma, already: 1000, begun: begun}
	p.total.Store(5000)
	for done, want := range map[int64]string{
		1000: "exporting  20% [====                    ] 1,000 of 5,000 sessions, 0/s",
		3000: "exporting  60% [==============          ] 3,000 of 5,000 sessions, 200/s, 10s left",
		5000: "exporting 100% [========================] 5,000 of 5,000 sessions, 400/s",
		6000: "exporting 100% [========================] 6,000 of 5,000 sessions, 500/s",
	} {
		if got := p.line(done, begun.Add(10*time.Second)); got != want {
			t.Errorf("at %d it says\n%q, want\n%q", done, got, want)
		}
	}
	p.total.Store(0)
	if got, want := p.line(3000, begun.Add(10*time.Second)), "exporting 3,000 sessions, 200/s"; got != want {
		t.Errorf("without a total it says %q, want %q", got, want)
	}
}

func TestProgress_saysNothingWhereNobodyLooks(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&b, "exporting", " sessions", 0)
	p.at(3000)
	p.done()
	if b.Len() > 0 {
		t.Errorf("it writes %q", &b)
	}
}

func TestLineReader_linesOfAnyLength(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	lines := newLineReader(strings.NewReader("a\n\n" + long + "\nlast"))
	for i, want := range []string{"a\n", "\n", long + "\n", "last"} {
		if got, err := lines.next(); err != nil || string(got) != want || lines.read != i+1 {
			t.Errorf("line %d has %d bytes (%v), want %d", i+1, len(got), err, len(want))
		}
	}
	if _, err := lines.next(); err != io.EOF {
		t.Errorf("the end is %v", err)
	}
}

// A Caddy that starts again has an admin API before it has a config: a move goes
// on then, and ends at once where asking again changes nothing.
func TestPatience_outlastsACaddyThatStarts(t *testing.T) {
	for status, want := range map[int]bool{400: false, 404: true, 503: true} {
		if got := new(patience).pause(answerError{status, "no"}); got != want {
			t.Errorf("after a %d it goes on: %v", status, got)
		}
	}
}

// In `caddy manpage` what stands in angle brackets is missing: <file>.partial
// became .partial.
func TestCommands_textsAreWholeInManPages(t *testing.T) {
	for _, cmd := range []*cobra.Command{
		listCommand(), showCommand(), revokeCommand(), statsCommand(), purgeCommand(), exportCommand(), importCommand(), keygenCommand(),
	} {
		if strings.Contains(cmd.Long, "<") {
			t.Errorf("%s: %s", cmd.Name(), cmd.Long)
		}
	}
}

// What a database says goes to the operator's terminal.
func TestAnswerError_hasNoControlCharacters(t *testing.T) {
	err := new(client).explain(errors.New(`HTTP 503: {"error":"no \u001b[31mspace\u001b]0;left\u0007\u009b5m"}`))
	if text := err.Error(); strings.ContainsAny(text, "\x1b\x07\u009b") || !strings.Contains(text, "space") {
		t.Errorf("it is %q", text)
	}
}
