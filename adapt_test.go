package caddysession_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// The cases are files in the form of Caddy's own: a Caddyfile, a line of dashes,
// and the JSON that it is, or the error. After a change of the syntax
// `go test -run Caddyfile . -update` writes them anew; read what that changed.
var update = flag.Bool("update", false, "write the expectations of testdata anew")

const dashes = "----------\n"

func TestCaddyfile_adaptsToJSON(t *testing.T) {
	t.Parallel()
	eachCase(t, "adapt", func(t *testing.T, config string) string {
		adapted, err := adapt(config)
		if err != nil {
			t.Fatal(err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, adapted, "", "\t"); err != nil {
			t.Fatal(err)
		}
		return pretty.String()
	})
}

func TestCaddyfile_mistakesNameTheirPlace(t *testing.T) {
	t.Parallel()
	eachCase(t, "errors", func(t *testing.T, config string) string {
		_, err := adapt(config)
		if err == nil {
			t.Fatal("it is taken")
		}
		if !strings.Contains(err.Error(), ", at Caddyfile:") {
			t.Errorf("the error names no place: %v", err)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error has the password: %v", err)
		}
		return err.Error()
	})
}

func adapt(config string) ([]byte, error) {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), map[string]any{"filename": "Caddyfile"})
	return adapted, err
}

// eachCase compares what run makes of the Caddyfiles in a directory with what is expected.
func eachCase(t *testing.T, dir string, run func(t *testing.T, config string) string) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.caddyfiletest"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s (%v)", dir, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			config, want, ok := strings.Cut(strings.ReplaceAll(string(content), "\r\n", "\n"), dashes)
			if !ok && !*update {
				t.Fatal("no line of dashes")
			}
			if formatted := string(caddyfile.Format([]byte(config))); formatted != config {
				t.Errorf("`caddy fmt` changes the Caddyfile to\n%s", formatted)
			}
			got := run(t, config) + "\n"
			switch {
			case got == want:
			case *update:
				if err := os.WriteFile(file, []byte(config+dashes+got), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What the Caddyfile cannot say, JSON can.
func TestJSON_mistakesAreErrorsOfTheProvisioning(t *testing.T) {
	t.Setenv("SESSION_TEST_BLANK", " ")
	t.Setenv("SESSION_TEST_LINES", firstSecret+"\n"+secondSecret+"\n")
	t.Setenv("SESSION_TEST_KEY", firstSecret)
	t.Setenv("SESSION_TEST_KEY_AGAIN", firstSecret)
	for name, test := range map[string]struct{ handler, want string }{
		"host prefix with domain":    {`{"handler":"session","cookie":{"name":"__Host-a","domain":"example.com"}}`, "must not have a domain"},
		"none without secure":        {`{"handler":"session","cookie":{"same_site":"none","secure":"off"}}`, "needs a Secure cookie"},
		"unknown same_site":          {`{"handler":"session","cookie":{"same_site":"Lax"}}`, `unknown same_site "Lax"`},
		"unknown secure":             {`{"handler":"session","cookie":{"secure":"true"}}`, `unknown secure "true"`},
		"cookie name":                {`{"handler":"session","cookie":{"name":"a;b"}}`, "is no name for a cookie"},
		"cookie path":                {`{"handler":"session","cookie":{"path":"/;Domain=evil"}}`, "the cookie's path"},
		"idle over lifetime":         {`{"handler":"session","lifetime":"1h","idle_timeout":"2h"}`, "is longer than lifetime"},
		"negative lifetime":          {`{"handler":"session","lifetime":-1}`, "lifetime must be a positive duration"},
		"negative idle_timeout":      {`{"handler":"session","idle_timeout":-1}`, "idle_timeout must be a positive duration"},
		"negative touch_interval":    {`{"handler":"session","touch_interval":-1}`, "touch_interval must be a positive duration"},
		"negative renew_interval":    {`{"handler":"session","renew_interval":-1}`, "renew_interval must be a positive duration"},
		"negative remember_lifetime": {`{"handler":"session","remember_lifetime":-1}`, "remember_lifetime must be a positive duration"},
		"negative max_size":          {`{"handler":"session","max_size":-1}`, "max_size must be a positive size"},
		"negative cleanup":           {`{"handler":"session","store":{"cleanup_interval":-1}}`, "cleanup_interval must be a positive duration"},
		"negative max_calls":         {`{"handler":"session","store":{"max_calls":-1}}`, "max_calls must be a positive number"},
		"tls without https":          {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"tls_ca":"go.mod"}}}`, "tls options have no effect"},
		"tls cert without https":     {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"tls_certificate":"go.mod","tls_key":"go.mod"}}}`, "tls options have no effect"},
		"both stores":                {`{"handler":"session","store":{"embedded":{},"rqlite":{"addresses":["http://n1:4001"]}}}`, "choose embedded or rqlite"},
		"table":                      {`{"handler":"session","store":{"table":"a b"}}`, "is no name for a table"},
		"synchronous":                {`{"handler":"session","store":{"embedded":{"synchronous":"off"}}}`, "unknown synchronous"},
		"no addresses":               {`{"handler":"session","store":{"rqlite":{}}}`, "needs the address of at least one node"},
		"address with path":          {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001/db"]}}}`, "more than scheme, host and port"},
		"address without host":       {`{"handler":"session","store":{"rqlite":{"addresses":["http://:4001"]}}}`, "is no address of an rqlite node"},
		"address without scheme":     {`{"handler":"session","store":{"rqlite":{"addresses":["n1:4001"]}}}`, "is no address of an rqlite node"},
		"address of another scheme":  {`{"handler":"session","store":{"rqlite":{"addresses":["tcp://n1:4001"]}}}`, "is no address of an rqlite node"},
		"address with query":         {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001?level=weak"]}}}`, "more than scheme, host and port"},
		"address with credentials":   {`{"handler":"session","store":{"rqlite":{"addresses":["http://admin:hunter2@n1:4001"]}}}`, "carries credentials"},
		"malformed address":          {`{"handler":"session","store":{"rqlite":{"addresses":["http://admin:hunter2@n1:port"]}}}`, "is no address of an rqlite node"},
		"consistency":                {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"consistency":"eventual"}}}`, "unknown consistency"},
		"cookie path not ASCII":      {`{"handler":"session","cookie":{"path":"/ü"}}`, "ASCII only"},
		"cookie path placeholder":    {`{"handler":"session","cookie":{"path":"/{env.HOME}"}}`, "placeholders are not replaced"},
		"cookie domain placeholder":  {`{"handler":"session","cookie":{"domain":"{env.DOMAIN}"}}`, "placeholders are not replaced"},
		"cookie domain not ASCII":    {`{"handler":"session","cookie":{"domain":"exämple.com"}}`, "the cookie's domain"},
		"cookie domain underscore":   {`{"handler":"session","cookie":{"domain":"a_b.example.com"}}`, "the cookie's domain"},
		"bind short form":            {`{"handler":"session","bind":["{header.User-Agent}"]}`, "write {http.request.header.User-Agent}"},
		"audience short form":        {`{"handler":"session","audience":"{host}"}`, "write {http.request.host}"},
		"blank password":             {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"username":"u","password":"{env.SESSION_TEST_BLANK}"}}}`, "password resolves to nothing"},
		"blank file":                 {`{"handler":"session","store":{"embedded":{"file":"{env.SESSION_TEST_BLANK}"}}}`, "embedded file resolves to nothing"},
		"file in memory":             {`{"handler":"session","store":{"embedded":{"file":":memory:"}}}`, "name one in a temporary directory"},
		"password of a request":      {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"username":"u","password":"{http.request.uri.path.file.password}"}}}`, "{file./etc/caddy/NAME}"},
		"two keys in one":            {`{"handler":"session","keys":{"secrets":["{env.SESSION_TEST_LINES}"]}}`, "a secret of keys has several lines"},
		"keys that are the same":     {`{"handler":"session","keys":{"secrets":["{env.SESSION_TEST_KEY}","{env.SESSION_TEST_KEY_AGAIN}"]}}`, "two of the secrets of keys are the same"},
		"cookie domain with a port":  {`{"handler":"session","cookie":{"domain":"example.com:8080"}}`, "the cookie's domain"},
		"limit of no sessions":       {`{"handler":"session","max_new_per_client":{"per":"1h"}}`, "must be a positive number of sessions"},
		"limit in no time":           {`{"handler":"session","max_new_per_client":{"sessions":1}}`, "needs a positive duration"},
		"no sessions of a user":      {`{"handler":"session","principal":"user","max_per_principal":{}}`, "must be 1 or more"},
		"origin with port 80":        {`{"handler":"session","cross_origin":{"origins":["http://a.example:80"]}}`, "write http://a.example"},
		"keys without any":           {`{"handler":"session","keys":{}}`, "keys needs at least one secret"},
		"key of 31 characters":       {`{"handler":"session","keys":{"secrets":["0123456789012345678901234567890"]}}`, "it must have 32 at least"},
		"key of a request":           {`{"handler":"session","keys":{"secrets":["{http.request.uri.path.file.key}"]}}`, "{file./etc/caddy/NAME}"},
		"principal placeholder":      {`{"handler":"session","principal":"{http.session.data.user}"}`, "the key of a value of the session stands here"},
		"brace in the password":      {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"username":"u","password":"hunter2{a}"}}}`, "password resolves to nothing"},
		"password alone":             {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"password":"hunter2"}}}`, "password without username"},
		"variable that is not set":   {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"username":"u","password":"{env.NOT_SET_ANYWHERE}"}}}`, "password resolves to nothing"},
		"file that is not there":     {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"username":"u","password":"{file./not/there}"}}}`, "password resolves to nothing"},
		"certificate not there":      {`{"handler":"session","store":{"rqlite":{"addresses":["https://n1:4001"],"tls_ca":"/not/there"}}}`, "tls_ca"},
		"certificate of no form":     {`{"handler":"session","store":{"rqlite":{"addresses":["https://n1:4001"],"tls_ca":"go.mod"}}}`, "tls_ca: go.mod holds no PEM certificate"},
		"certificate of ours, none":  {`{"handler":"session","store":{"rqlite":{"addresses":["https://n1:4001"],"tls_certificate":"go.mod","tls_key":"go.mod"}}}`, "tls_cert: "},
		"unknown field":              {`{"handler":"session","expires":"1h"}`, "unknown field"},
		"edit without operations":    {`{"handler":"session_edit"}`, "does nothing"},
		"edit unknown operation":     {`{"handler":"session_edit","operations":[{"action":"rename"}]}`, `unknown operation "rename": use put, `},
		"edit without key":           {`{"handler":"session_edit","operations":[{"action":"put"}]}`, "put needs a key"},
		"edit reserved key":          {`{"handler":"session_edit","operations":[{"action":"remove","keys":["a","__created"]}]}`, "keys that begin with __"},
		"edit put_json":              {`{"handler":"session_edit","operations":[{"action":"put_json","key":"a","value":"{"}]}`, "not JSON"},
		"edit status":                {`{"handler":"session_edit","operations":[{"action":"clear"}],"redirect":"/","status_code":200}`, "no status of a redirect"},
		"edit status alone":          {`{"handler":"session_edit","operations":[{"action":"clear"}],"status_code":303}`, "status_code without a redirect"},
		"auth without key":           {`{"handler":"authentication","providers":{"session":{}}}`, "session_auth needs the key"},
		"credentials by placeholder": {`{"handler":"session","store":{"rqlite":{"addresses":["http://admin:pass@hunter2@{env.NOT_SET_ANYWHERE}:4001"]}}}`, "address resolves to nothing"},
		"table of SQLite":            {`{"handler":"session","store":{"table":"sqlite_sessions"}}`, "is no name for a table"},
		"origins with a comma":       {`{"handler":"session","cross_origin":{"origins":["https://a.example,"]}}`, "no comma"},
		"csrf placeholder":           {`{"handler":"session_csrf","field":"{env.FIELD}"}`, "the name of a field"},
		"devices placeholder":        {`{"handler":"session_devices","path":"/{env.LANGUAGE}"}`, "the path of session_devices"},
		"edit increment beyond":      {`{"handler":"session_edit","operations":[{"action":"increment","key":"n","by":-9007199254740993}]}`, "increment n: 9007199254740991 is the most"},
		"edit remember off":          {`{"handler":"session_edit","operations":[{"action":"remember","value":"off"}]}`, "remember takes no value, which would do nothing; remember off is the action forget"},
		"edit increment by a text":   {`{"handler":"session_edit","operations":[{"action":"increment","key":"n","value":"5"}]}`, "increment takes no value, which would do nothing; what it adds is by"},
		"edit put by":                {`{"handler":"session_edit","operations":[{"action":"put","key":"n","by":5}]}`, "put takes no by"},
		"edit clear one":             {`{"handler":"session_edit","operations":[{"action":"clear","keys":["cart"]}]}`, "clear takes no keys, which would do nothing; remove takes some"},
		"edit destroy a key":         {`{"handler":"session_edit","operations":[{"action":"destroy","key":"cart"}]}`, "destroy takes no key,"},
		"edit placeholder in a key":  {`{"handler":"session_edit","operations":[{"action":"increment","key":"seen_{http.request.uri.path}"}]}`, "no placeholder"},
		"lifetime in seconds":        {`{"handler":"session","lifetime":3600}`, "lifetime is 3.6µs, which is too short to be meant: a number in JSON is nanoseconds"},
		"idle_timeout in seconds":    {`{"handler":"session","idle_timeout":1800}`, "idle_timeout is 1.8µs"},
		"renew_interval in seconds":  {`{"handler":"session","renew_interval":600}`, "renew_interval is 600ns"},
		"remembered in seconds":      {`{"handler":"session","persist":false,"remember_lifetime":604800}`, "remember_lifetime is 604.8µs"},
		"revalidate in seconds":      {`{"handler":"session","revalidate":30}`, "revalidate is 30ns"},
		"cleanup in seconds":         {`{"handler":"session","store":{"cleanup_interval":300}}`, "cleanup_interval is 300ns"},
		"timeout in seconds":         {`{"handler":"session","store":{"rqlite":{"addresses":["http://n1:4001"],"timeout":2}}}`, "timeout is 2ns"},
		"limit in seconds":           {`{"handler":"session","max_new_per_client":{"sessions":20,"per":3600}}`, "per of max_new_per_client is 3.6µs"},
		"matcher reserved key":       {matching(`{"session":{"values":{"__created":[]}}}`), "keys that begin with __"},
		"matcher placeholder":        {matching(`{"session":{"values":{"{http.session.data.user}":["alice"]}}}`), "no placeholder"},
		"matcher comma":              {matching(`{"not":[{"session":{"values":{"user,":[]}}}]}`), "no comma"},
		"matcher equals":             {matching(`{"session":{"values":{"role=admin":[]}}}`), "session role admin"},
		"matcher empty key":          {matching(`{"session":{"values":{"":[]}}}`), "takes a key"},
		"expression reserved key":    {matching(`{"expression":"session('__created')"}`), "keys that begin with __"},
		"expression equals":          {matching(`{"expression":"!session('role=admin')"}`), "session role admin"},
	} {
		t.Run(name, func(t *testing.T) {
			err := validate(t, test.handler)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") && !strings.Contains(test.want, "unknown field") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

// What > of Windows PowerShell writes is UTF-16: with its line end it is one secret, and stays the one that it was.
func TestJSON_secretThatPowerShellWrote(t *testing.T) {
	var secret []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + firstSecret + "\r\n")) {
		secret = binary.LittleEndian.AppendUint16(secret, unit)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := validate(t, `{"handler":"session","keys":{"secrets":["{file.`+filepath.ToSlash(file)+`}"]}}`); err != nil {
		t.Error(err)
	}
}

// The handler that is provisioned first has no such option itself.
func TestJSON_mistakesInTheDefaultsAreSaidToBeThere(t *testing.T) {
	const config = `{"admin":{"disabled":true},"apps":{"session":{"defaults":%s},"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[%s]}]}}}}}`
	for _, test := range []struct {
		defaults, handler string
		named             bool
	}{
		{`{"lifetime":-1}`, `{"handler":"session"}`, true},
		{`{"idle_timeout":"2h"}`, `{"handler":"session","lifetime":"1h"}`, true},
		{`{"idle_timeout":"2h"}`, `{"handler":"session","lifetime":-1}`, false},
	} {
		err := validateConfig(t, fmt.Sprintf(config, test.defaults, test.handler))
		if err == nil || strings.Contains(err.Error(), "with the defaults of every session") != test.named {
			t.Errorf("%s and %s: the error is %v", test.defaults, test.handler, err)
		}
	}
}

// matching is a handler with a route that a matcher leads to.
func matching(matcher string) string {
	return `{"handler":"subroute","routes":[{"match":[` + matcher + `],"handle":[{"handler":"static_response"}]}]}`
}

// validate does with a handler in JSON what `caddy validate` does.
func validate(t *testing.T, handler string) error {
	t.Helper()
	return validateConfig(t, fmt.Sprintf(`{"admin":{"disabled":true},"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[%s]}]}}}}}`, handler))
}

func validateConfig(t *testing.T, text string) error {
	t.Helper()
	config := new(caddy.Config)
	if err := json.Unmarshal([]byte(text), config); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(config)
}

func TestExamples_areFormattedAndAdapt(t *testing.T) {
	files, err := filepath.Glob("examples/*/Caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples (%v)", err)
	}
	t.Setenv("SITE", ":8080") // of the example for a cluster
	t.Setenv("ADMIN", "localhost:2019")
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			config, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if formatted := caddyfile.Format(config); !bytes.Equal(formatted, config) {
				t.Errorf("`caddy fmt` changes it to\n%s", formatted)
			}
			_, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(config, map[string]any{"filename": file})
			if err != nil || len(warnings) > 0 {
				t.Errorf("adapting: %v, warnings %v", err, warnings)
			}
		})
	}
}
