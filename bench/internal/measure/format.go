package measure

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Row is a line of a Markdown table.
type Row []string

// WriteTable writes rows as a Markdown table under head. All columns but the
// first are aligned to the right.
func WriteTable(w io.Writer, head Row, rows []Row) error {
	var b strings.Builder
	line := func(cells Row) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(head)
	rule := make(Row, len(head))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	line(rule)
	for _, r := range rows {
		line(r)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Latency formats nanoseconds as milliseconds.
func Latency(ns float64) string { return fmt.Sprintf("%.2f ms", ns/float64(time.Millisecond)) }

// Count formats a number with a comma between thousands.
func Count(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Times formats a ratio.
func Times(v float64) string { return fmt.Sprintf("%.2f x", v) }

// Goal is a bound for a ratio.
type Goal struct {
	Bound float64
	// Most says that the ratio should be at most the bound, not at least.
	Most bool
}

// Verdict formats a ratio beside its goal.
func (g Goal) Verdict(ratio float64) string {
	sign, met := "≥", ratio >= g.Bound
	if g.Most {
		sign, met = "≤", ratio <= g.Bound
	}
	word := "missed"
	if met {
		word = "met"
	}
	return fmt.Sprintf("%s (goal %s %.2f: %s)", Times(ratio), sign, g.Bound, word)
}
