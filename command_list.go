package caddysession

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [--principal <name>] [--limit <n>] [--json]",
		Short: "Lists sessions",
		Long: `
Lists the sessions that are good now, in no order that means anything. With
--json it writes one session a line. Principals are known where the option
principal names the value that says who the user is; the last use and its
address where the option track is on.`,
		Args: takes(0, "no arguments: --principal <name> names a user"),
		RunE: run(listSessions),
	}
	cmd.Flags().String("principal", "", "List only the sessions of this principal")
	cmd.Flags().Int("limit", 100, "List at most so many; 0 lists all")
	jsonFlag(cmd)
	return cmd
}

func listSessions(c *client, fl caddycmd.Flags) error {
	query, left := url.Values{}, fl.Int("limit")
	switch {
	case left < 0:
		return fmt.Errorf("--limit is a number of sessions, or 0 for all, not %d", left)
	case left == 0:
		left = math.MaxInt
	}
	if name := fl.String("principal"); name != "" {
		query.Set("principal", name)
	}
	table := newSessionTable(c.out)
	for left > 0 {
		query.Set("limit", strconv.Itoa(min(left, listPage)))
		var page ListResult
		if err := c.get("sessions", query, &page); err != nil {
			return err
		}
		left -= len(page.Sessions)
		for _, s := range page.Sessions {
			if !fl.Bool("json") {
				table.add(s)
			} else if err := c.printJSON(s); err != nil {
				return err
			}
		}
		if !fl.Bool("json") {
			if err := table.Flush(); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		query.Set("after", page.Next)
	}
	fmt.Fprintln(c.notes, "There are more: --limit 0 lists all.")
	return nil
}

// sessionTable lists sessions for people.
type sessionTable struct{ *tabwriter.Writer }

func newSessionTable(w io.Writer) sessionTable {
	t := sessionTable{newTable(w)}
	fmt.Fprintln(t, "ID\tPRINCIPAL\tCREATED\tUSED\tEXPIRES\tADDRESS\tSIZE")
	return t
}

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 8, 2, ' ', 0) }

func (t sessionTable) add(s SessionStatus) {
	principal := cmp.Or(printable(s.Principal, 40), "-")
	if s.Unreadable {
		principal = "(unreadable)"
	}
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(s.ID, 64), principal, localTime(s.Created), localTime(s.Used),
		localTime(&s.Expires), cmp.Or(printable(s.Address, 45), "-"), humanize.IBytes(uint64(max(s.Size, 0))))
}

func localTime(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// printable makes text that comes from visitors harmless to a terminal, and no
// longer than some characters.
func printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

func showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show <id> [--values] [--json]",
		Short: "Shows a session",
		Long: `
Shows the session with a public id: the session_id of the access log, or what
{http.session.id} is. What the application keeps in it is shown with --values.`,
		Args: takes(1, "the id of one session"),
		RunE: run(showSession),
	}
	cmd.Flags().Bool("values", false, "Show the values too")
	jsonFlag(cmd)
	return cmd
}

func showSession(c *client, fl caddycmd.Flags) error {
	query := url.Values{}
	if fl.Bool("values") {
		query.Set("values", "1")
	}
	var s SessionStatus
	if err := c.get("sessions/"+url.PathEscape(fl.Arg(0)), query, &s); err != nil {
		return err
	}
	if fl.Bool("json") {
		return c.printJSON(s)
	}
	table := newTable(c.out)
	for _, line := range [][2]string{
		{"id", printable(s.ID, 64)},
		{"principal", printable(s.Principal, 1000)},
		{"audience", printable(s.Audience, 1000)},
		{"created", localTime(s.Created)},
		{"used", localTime(s.Used)},
		{"address", printable(s.Address, 1000)},
		{"user agent", printable(s.UserAgent, 1000)},
		{"expires", localTime(&s.Expires)},
		{"at the latest", localTime(s.Deadline)},
		{"remembered", strconv.FormatBool(s.Remembered)},
		{"size", humanize.IBytes(uint64(max(s.Size, 0)))},
		{"saves", humanize.Comma(s.Saves)},
	} {
		fmt.Fprintf(table, "%s\t%s\n", line[0], cmp.Or(line[1], "-"))
	}
	if s.Unreadable {
		fmt.Fprintln(table, "unreadable\tthe row is damaged, or sealed by a key that is not configured")
	}
	if err := table.Flush(); err != nil || s.Values == nil {
		return err
	}
	return c.printValues(s.Values)
}

// printValues writes values one below the other.
func (c *client) printValues(values json.RawMessage) error {
	indented, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "values\n%s\n", escapeControls(indented))
	return err
}

// escapeControls writes what JSON leaves as it is and a terminal may obey (C1
// controls and the like) as JSON's escapes.
func escapeControls(text []byte) string {
	return escape(text, func(r rune) bool { return r == '\n' || unicode.IsPrint(r) })
}
