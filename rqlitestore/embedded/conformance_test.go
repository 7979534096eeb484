package embedded_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// The answers of a real node are kept in a file, so that the comparison is made everywhere. With RQLITED
// set the file is compared with the real node, and with -update written from it.
var update = flag.Bool("update", false, "write testdata/rqlite.json from the rqlited that RQLITED names")

const goldenFile = "testdata/rqlite.json"

// answer is what a node said, without times.
type answer struct {
	Name   string `json:"name"`
	Status int    `json:"status"`
	// JSON is the body, Text is it where it is no JSON.
	JSON any    `json:"json,omitempty"`
	Text string `json:"text,omitempty"`
}

// differences are the answers that are not those of rqlite, what they are instead, and why.
var differences = map[string]struct {
	why    string
	status int
	body   string
}{
	"infinity": {
		"the same failure without the name of a type of rqlite's",
		500, "json: unsupported value: +Inf or -Inf",
	},
	"store: select after alter": {
		"rqlite shows the columns from before the change once more when there is no row",
		200, `{"results":[{"columns":["token","data","expiry","version","principal"],"types":["text","blob","real","integer","text"]}]}`,
	},
	"store: returning and a keyword": {
		"rqlite's own parser takes key for a keyword, and of what it does not understand it gives no rows",
		200, `{"results":[{"columns":["token"],"types":["text"]}]}`,
	},
	"explain among writes": {
		"in rqlite the rows of the plan are dropped when another statement of the request writes",
		200, `{"results":[{"columns":["id","parent","notused","detail"],"types":["integer","integer","integer","text"],"values":[[3,0,33,"SEARCH foo USING INTEGER PRIMARY KEY (rowid=?)"]]},{"last_insert_id":500}]}`,
	},
	"queued write that fails": {
		"a queued write is done at once, and so an error is known and told",
		200, `{"error":"no such table: nix","results":[],"sequence_number":"…"}`,
	},
	"plain text body": {
		"a web page may send one without asking first, and there is no authentication",
		415, "the body must be application/json",
	},
	"synchronous by call": {
		"rqlite only knows the form with =",
		200, `{"error":"disallowed pragma","results":[]}`,
	},
	"begin": {
		"an open transaction would hold the writes of later requests, and rqlite's documentation rules it out too",
		200, `{"results":[{"error":"BEGIN is not supported: use the transaction parameter of the request"}]}`,
	},
	"rollback": {
		"the same",
		200, `{"results":[{"error":"ROLLBACK is not supported: use the transaction parameter of the request"}]}`,
	},
	"attach": {
		"no other file may be reached through the node",
		200, `{"results":[{"error":"ATTACH is not supported"}]}`,
	},
	"detach": {
		"the same",
		200, `{"results":[{"error":"DETACH is not supported"}]}`,
	},
}

func TestConformance_answersAsRqlite(t *testing.T) {
	t.Parallel()
	recorded := readGolden(t)
	server := httptest.NewServer(newNode(t))
	t.Cleanup(server.Close)
	for i, got := range converse(t, server.URL) {
		if i >= len(recorded) || recorded[i].Name != got.Name {
			t.Fatalf("%s does not have %q in its place: write it with -update", goldenFile, got.Name)
		}
		want := recorded[i]
		if d, ok := differences[got.Name]; ok {
			other := newAnswer(got.Name, d.status, []byte(d.body))
			if reflect.DeepEqual(other, want) {
				t.Errorf("%s: is in the table of differences, but rqlite answers the same", got.Name)
			}
			want = other
		}
		compare(t, got, want)
	}
}

func TestConformance_recordedAnswersAreThoseOfRqlite(t *testing.T) {
	t.Parallel()
	got := converse(t, rqlited.Start(t, 1).Nodes[0].URL)
	if *update {
		writeGolden(t, got)
	}
	want := readGolden(t)
	if len(got) != len(want) {
		t.Fatalf("%d answers, %d are recorded in %s: write it with -update", len(got), len(want), goldenFile)
	}
	for i := range got {
		compare(t, got[i], want[i])
	}
}

func newNode(t testing.TB) *embedded.Node {
	n := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{})
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

func compare(t *testing.T, got, want answer) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", got.Name, show(got), show(want))
	}
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// converse holds the conversation with the node at url.
func converse(t *testing.T, url string) []answer {
	t.Helper()
	list := make([]answer, 0, len(conversation))
	for _, e := range conversation {
		list = append(list, ask(t, url, e))
	}
	return list
}

func ask(t *testing.T, url string, e exchange) answer {
	t.Helper()
	method, contentType := e.method, e.header
	if method == "" {
		method = http.MethodPost
	}
	if contentType == "" {
		contentType = "application/json"
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url+e.target, strings.NewReader(e.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
	return newAnswer(e.name, resp.StatusCode, body)
}

func newAnswer(name string, status int, body []byte) answer {
	a := answer{Name: name, Status: status}
	if v, err := decode(body); err == nil {
		a.JSON = withoutTimes(v)
	} else {
		a.Text = strings.TrimSpace(string(body))
	}
	return a
}

func decode(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// withoutTimes takes out how long it took, and the number of a queued write, which begins with a time. A sign is left
// that they were there.
func withoutTimes(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if _, ok := e.(json.Number); ok && (k == "time" || k == "sequence_number") {
				v[k] = "…"
			} else {
				v[k] = withoutTimes(e)
			}
		}
	case []any:
		for i := range v {
			v[i] = withoutTimes(v[i])
		}
	}
	return v
}

func readGolden(t *testing.T) []answer {
	t.Helper()
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var list []answer
	if err := d.Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

func writeGolden(t *testing.T, list []answer) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("[\n")
	for i, a := range list {
		if i > 0 {
			b.WriteString(",\n")
		}
		b.WriteString(show(a))
	}
	b.WriteString("\n]\n")
	if err := os.WriteFile(goldenFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
