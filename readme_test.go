package caddysession_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// inWords are what the README writes for a value, and one that it stands for.
var inWords = strings.NewReplacer(
	" [<matcher>]", "", " [<n>]", " 2", " [<code>]", " 303",
	"touch_interval <duration>", "touch_interval 1s", "<duration>", "1m",
	"<placeholder>...", "{http.request.host}", "<secret>...", "{env.SECRET}", "<origin>", "https://example.com",
	"<key>...|*", "*", "<key>...", "a b", "<key>", "user", "<value>", "text", "<json>", `"{}"`, "on|off", "on",
	"{file./etc/caddy/session-key}", "{env.SECRET}", "{file./etc/caddy/rqlite-password}", "{env.SECRET}",
	"tls_ca <file>", "", "tls_cert <file> <key>", "",
	"<Header-Name>", "X-User", "<to>", "/", "<time>", "2027-01-01", "<n>", "3", "<domain>", "example.com",
	"<file>", "/some/file", "<name>", "name", "<password>", "secret", "<secret>", "secret", "http://n", "https://n",
)

var (
	site        = regexp.MustCompile(`^(example\.com|http://\S+) \{`)
	matcherName = regexp.MustCompile(`(?m)^@\w+`)
)

// Every Caddyfile in the README is one that Caddy takes, as far as it has the
// modules and the files for it, and so is every option that it names.
func TestReadme_CaddyfilesLoad(t *testing.T) {
	t.Setenv("SECRET", strings.Repeat("s", 32))
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 8 {
		t.Fatalf("there are %d", len(blocks))
	}
	var all string
	for _, block := range blocks {
		config := inWords.Replace(block[1])
		all += block[1]
		if strings.Contains(config, "exec ") {
			continue // of a module that is not in here
		}
		if !site.MatchString(config) {
			for _, name := range matcherName.FindAllString(config, -1) {
				config += "respond " + name + " ok\n" // one that nothing uses is left out
			}
			config = "example.com {\n" + config + "}\n"
		}
		for _, one := range eitherStore(config) {
			adapted, err := adapt(one)
			if err == nil {
				err = validateConfig(t, string(adapted))
			}
			if err != nil {
				t.Errorf("%v\n%s", err, one)
			}
		}
	}
	for _, name := range optionsThatTheErrorNames(t) {
		if !regexp.MustCompile(`(?m)^\t+` + name + `\b`).MatchString(all) {
			t.Errorf("the option %s is not named", name)
		}
	}
}

// xcaddy refuses an older Caddy than the one that go.mod asks for.
func TestReadme_namesTheOldestCaddy(t *testing.T) {
	t.Parallel()
	find := func(file, pattern string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		match := regexp.MustCompile(pattern).FindSubmatch(text)
		if match == nil {
			t.Fatalf("%s has nothing like %s", file, pattern)
		}
		return string(match[1])
	}
	needed := find("go.mod", `caddyserver/caddy/v2 v(\S+)`)
	if named := find("README.md", `Caddy (\S+) or newer is needed`); named != needed {
		t.Errorf("the README asks for Caddy %s, go.mod for %s", named, needed)
	}
}

// Whoever looks for a file finds its row, and a row leads to files that are there.
func TestReadme_mapsTheFiles(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, development, _ := strings.Cut(string(readme), "## Development")
	mapped := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `.* \\|").FindAllString(development, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row, -1) {
			files, err := filepath.Glob(name[1])
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				mapped[filepath.Clean(file)] = true
			}
			if len(files) == 0 && !strings.HasPrefix(row, "| `rqlitestore/`") {
				t.Errorf("there is no %s", name[1])
			}
		}
	}
	all, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if !mapped[file] && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("no row has %s", file)
		}
	}
}

// eitherStore makes two configs of one that shows both stores.
func eitherStore(config string) []string {
	embedded := regexp.MustCompile(`(?s)\tembedded .*?\n\t\}\n`)
	rqlite := regexp.MustCompile(`(?s)\trqlite .*?\n\t\}\n`)
	if !embedded.MatchString(config) || !rqlite.MatchString(config) {
		return []string{config}
	}
	return []string{embedded.ReplaceAllString(config, ""), rqlite.ReplaceAllString(config, "")}
}

// optionsThatTheErrorNames are the options of `session` and of its blocks.
func optionsThatTheErrorNames(t *testing.T) (names []string) {
	for _, block := range []string{"nothing", "cookie {\nnothing\n}", "rqlite http://n1:4001 {\nnothing\n}", "embedded {\nnothing\n}", "upstream {\nnothing\n}"} {
		_, err := adapt("example.com {\nsession {\n" + block + "\n}\n}")
		_, list, ok := strings.Cut(err.Error(), "which takes ")
		if !ok {
			t.Fatalf("the error is %v", err)
		}
		list, _, _ = strings.Cut(list, ", at ")
		names = append(names, strings.Split(list, ", ")...)
	}
	return names
}
