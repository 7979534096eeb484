package caddysession

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke (<id>... | --principal <name> | --all [--yes]) [--json]",
		Short: "Ends sessions",
		Long: `
Ends the sessions with some public ids, those of a principal, or those of
everybody. They are gone for every Caddy on the store; one with a read cache may
answer from it for as long as its option cache says. Where one of several ids is
of no session, the others are ended all the same, and it exits with 1. Those of
a principal are found where the option principal names the value that says who
the user is.`,
		RunE: run(revokeSessions),
	}
	cmd.Flags().String("principal", "", "End all sessions of this principal")
	cmd.Flags().Bool("all", false, "End the sessions of everybody")
	cmd.Flags().BoolP("yes", "y", false, "Do not ask whether --all is meant")
	jsonFlag(cmd)
	return cmd
}

func revokeSessions(c *client, fl caddycmd.Flags) error {
	ids, name, all := fl.Args(), fl.String("principal"), fl.Bool("all")
	if len(ids) > 0 && (name != "" || all) || name != "" && all || len(ids) == 0 && name == "" && !all {
		return errors.New("say which sessions are to end: ids, --principal <name>, or --all")
	}
	total := RevokeResult{}
	switch {
	case all:
		if err := c.confirmAll(fl.Bool("yes")); err != nil {
			return err
		}
		if err := c.call(http.MethodDelete, "sessions", url.Values{"all": {"1"}}, nil, &total); err != nil {
			return err
		}
	case name != "":
		if err := c.call(http.MethodDelete, "sessions", url.Values{"principal": {name}}, nil, &total); err != nil {
			return err
		}
	}
	failed := c.revokeEach(ids, &total)
	if total.Store == "" {
		return failed
	}
	if fl.Bool("json") {
		return errors.Join(failed, c.printJSON(total))
	}
	fmt.Fprintf(c.out, "%s ended in %s\n", counted(int64(total.Revoked), "session"), total.Store)
	return failed
}

// revokeEach ends sessions by their ids: one that is gone, or that cannot be
// ended, keeps none of the others. The error names those that were not ended.
func (c *client) revokeEach(ids []string, total *RevokeResult) error {
	var failed []string
	for _, id := range ids {
		var one RevokeResult
		if err := c.call(http.MethodDelete, "sessions/"+url.PathEscape(id), nil, nil, &one); err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", id, err))
			if answer := (answerError{}); !errors.As(err, &answer) {
				break // nobody is there to be asked for the others
			}
			continue
		}
		total.Store = one.Store
		total.Revoked += one.Revoked
	}
	if failed == nil {
		return nil
	}
	return errors.New(strings.Join(failed, "; "))
}

func counted(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return humanize.Comma(n) + " " + what
}

// confirmAll asks whether everybody is to be logged out.
func (c *client) confirmAll(yes bool) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("this logs everybody out: say --yes if that is meant")
	}
	var count CountResult
	if err := c.get("count", nil, &count); err != nil {
		return err
	}
	fmt.Fprintf(c.notes, "This ends %s in %s. Go on? [y/N] ", counted(count.Sessions, "session"), count.Store)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // without an answer it is no
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was ended")
	}
	return nil
}

func purgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge [--json]",
		Short: "Removes expired sessions now",
		Long: `
Removes the rows of sessions that have expired, and says how many those were: a
session that was renewed has a row for each token. Caddy does that by itself,
every cleanup_interval.`,
		Args: takes(0, "no arguments"),
		RunE: run(func(c *client, fl caddycmd.Flags) error {
			var result PurgeResult
			if err := c.call(http.MethodPost, "purge", nil, nil, &result); err != nil {
				return err
			}
			if fl.Bool("json") {
				return c.printJSON(result)
			}
			fmt.Fprintf(c.out, "%s removed from %s\n", counted(result.Purged, "expired row"), result.Store)
			return nil
		}),
	}
	jsonFlag(cmd)
	return cmd
}
