package caddysession

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

// progress tells on a terminal how far a long work has come; elsewhere it says
// nothing.
type progress struct {
	to           *os.File // a terminal; nil where nobody is looking
	doing, what  string
	number       func(int64) string
	total        atomic.Int64 // about; 0 = not known
	begun, drawn time.Time
	already      int64 // what was done before this began
}

const (
	progressEvery = 200 * time.Millisecond
	progressWidth = 24
)

func newProgress(notes io.Writer, doing, what string, already int64) *progress {
	p := &progress{doing: doing, what: what, number: humanize.Comma, already: already, begun: time.Now()}
	if file, ok := notes.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.to = file
	}
	return p
}

// at says how much is done by now.
func (p *progress) at(done int64) {
	now := time.Now()
	if p.to == nil || now.Sub(p.drawn) < progressEvery {
		return
	}
	p.drawn = now
	line := p.line(done, now)
	// A line that does not fit would begin another each time.
	if width, _, err := term.GetSize(int(p.to.Fd())); err == nil && width > 0 && len(line) >= width {
		line = line[:width-1]
	}
	fmt.Fprintf(p.to, "\r\x1b[K%s", line)
}

// done leaves the line to what comes next.
func (p *progress) done() {
	if p.to != nil {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}

func (p *progress) line(done int64, now time.Time) string {
	var rate float64
	if passed := now.Sub(p.begun).Seconds(); passed > 0 {
		rate = float64(done-p.already) / passed
	}
	total := p.total.Load()
	if total <= 0 {
		return fmt.Sprintf("%s %s%s, %s/s", p.doing, p.number(done), p.what, p.number(int64(rate)))
	}
	part := min(1, float64(done)/float64(total))
	filled := int(part * progressWidth)
	line := fmt.Sprintf("%s %3.0f%% [%s%s] %s of %s%s, %s/s", p.doing, 100*part,
		strings.Repeat("=", filled), strings.Repeat(" ", progressWidth-filled),
		p.number(done), p.number(total), p.what, p.number(int64(rate)))
	if left := total - done; rate > 0 && left > 0 {
		line += ", " + time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return line
}
