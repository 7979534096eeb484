package caddysession

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "session",
		Usage: "<command>",
		Short: "Shows, ends and moves the sessions of a running Caddy",
		Long: `
Shows, ends and moves the sessions that the running Caddy keeps, through its
admin API, which is expected at ` + caddy.DefaultAdminListen + ` unless --address says
otherwise, or --config names the config that it runs.

Where the config has several stores, --store says which one is meant;
"caddy session stats" shows their names.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.NoArgs
			cmd.PersistentFlags().String("address", "", "Address of the administration API listener (if --config is not used)")
			cmd.PersistentFlags().StringP("config", "c", "", "Configuration file (if --address is not used)")
			cmd.PersistentFlags().StringP("adapter", "a", "", "Name of config adapter to apply (if --config is used)")
			cmd.PersistentFlags().String("store", "", "Name of the store (if there are several)")
			cmd.AddCommand(listCommand(), showCommand(), revokeCommand(), statsCommand(), purgeCommand(),
				exportCommand(), importCommand(), keygenCommand())
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
				if strings.Contains(cmd.Use, "<id>") {
					return fmt.Errorf("%w; an id that begins with - goes behind --", err)
				}
				return err
			})
		},
	})
}

// run makes the RunE of a command that talks to the admin API.
func run(command func(c *client, fl caddycmd.Flags) error) func(*cobra.Command, []string) error {
	return caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) {
		c, err := newClient(fl)
		if err == nil {
			err = command(c, fl)
		}
		if err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		return caddy.ExitCodeSuccess, nil
	})
}

// takes makes the check of how many arguments a command takes; usage names them.
func takes(n int, usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return fmt.Errorf("%s takes %s; see %s --help", cmd.Name(), usage, cmd.CommandPath())
	}
}

func jsonFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "Write JSON, for scripts")
}

// client talks to the admin API of a Caddy.
type client struct {
	address, store string
	out, notes     io.Writer
}

func newClient(fl caddycmd.Flags) (*client, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return nil, fmt.Errorf("finding the address of the admin API: %w", err)
	}
	return &client{address: address, store: fl.String("store"), out: os.Stdout, notes: os.Stderr}, nil
}

// get reads what a path of the admin API answers.
func (c *client) get(path string, query url.Values, into any) error {
	return c.call(http.MethodGet, path, query, nil, into)
}

// call makes a request and reads its answer.
func (c *client) call(method, path string, query url.Values, body io.Reader, into any) error {
	res, err := c.send(method, path, query, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("what %s answers is not of Caddy's admin API, or broke off; --address says where that is: %w", c.address, err)
	}
	return nil
}

// send makes a request of a store. Every one has a connection of its own:
// Caddy's function for it makes a client each time.
func (c *client) send(method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	if query == nil {
		query = url.Values{}
	}
	if c.store != "" {
		query.Set("store", c.store)
	}
	uri := "/session/" + path
	if len(query) > 0 {
		uri += "?" + query.Encode()
	}
	res, err := c.ask(method, uri, body)
	if err != nil {
		return nil, c.explain(err)
	}
	return res, nil
}

const (
	adminPatience = 5 * time.Second  // before a Caddy that has not answered is asked whether it is there
	adminTimeout  = 10 * time.Second // for what it answers to that
)

var errSilent = errors.New("whoever listens there takes connections and says nothing: is that Caddy, and does it hang?")

// ask makes a request and waits for the header of its answer. To end a great many
// sessions takes minutes until then, so how long a Caddy takes does not say that it
// hangs: it is asked for something that it answers at once.
func (c *client) ask(method, uri string, body io.Reader) (*http.Response, error) {
	answer := c.begin(method, uri, body)
	for {
		select {
		case a := <-answer:
			return a.res, a.err
		case <-time.After(adminPatience):
		}
		select {
		case a := <-answer:
			return a.res, a.err
		case <-c.begin(http.MethodGet, "/session/", nil): // be it an error
		case <-time.After(adminTimeout):
			return nil, errSilent
		}
	}
}

// adminAnswer is what a request of the admin API has come to.
type adminAnswer struct {
	res *http.Response
	err error
}

// begin makes a request, and does not wait: Caddy's function for it knows no
// time limit.
func (c *client) begin(method, uri string, body io.Reader) <-chan adminAnswer {
	answer := make(chan adminAnswer, 1)
	go func() {
		res, err := caddycmd.AdminAPIRequest(c.address, method, uri, http.Header{"Connection": {"close"}}, body)
		answer <- adminAnswer{res, err}
	}()
	return answer
}

// answerError is an error that the admin API answered.
type answerError struct {
	status  int
	message string
}

// Error has no control characters: what a node of the store said is in it, too.
func (e answerError) Error() string { return printable(e.message, 2000) }

var answered = regexp.MustCompile(`(?s)HTTP (\d{3}): (.*)$`)

// explain takes the message out of the answer.
func (c *client) explain(err error) error {
	found := answered.FindStringSubmatch(err.Error())
	if found == nil {
		return fmt.Errorf("no answer from the admin API at %s: is Caddy running? With `admin off` it has none. --address says where it is, as host:port: %w", c.address, err)
	}
	status, _ := strconv.Atoi(found[1])
	var body struct {
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(found[2]), &body) != nil || body.Error == "" {
		if status == http.StatusNotFound {
			return answerError{status, fmt.Sprintf("the Caddy at %s has no sessions: it was built without this plugin", c.address)}
		}
		return answerError{status, err.Error()}
	}
	return answerError{status, body.Error}
}

// mayPass reports whether the same request may succeed later. The store was there
// when the work began, so that it is not found is a Caddy that is starting again:
// its admin API answers before its config runs.
func mayPass(err error) bool {
	var answer answerError
	switch {
	case errors.As(err, &lastingError{}):
		return false
	case errors.As(err, &answer):
		return answer.status >= http.StatusInternalServerError || answer.status == http.StatusNotFound
	}
	return true
}

// printJSON writes one JSON value on a line. It may go to a terminal, too.
func (c *client) printJSON(value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, escapeControls(encoded))
	return err
}
