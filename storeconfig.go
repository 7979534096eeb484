package caddysession

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// StoreConfig says where sessions are kept: in an embedded node (the default)
// or in an rqlite cluster.
type StoreConfig struct {
	// A single node in this process: one durable SQLite file.
	Embedded *EmbeddedConfig `json:"embedded,omitempty"`

	// A cluster of rqlite nodes, which any number of Caddys can share.
	Rqlite *RqliteConfig `json:"rqlite,omitempty"`

	// The table that holds the sessions; made when it is missing. Default: sessions.
	Table string `json:"table,omitempty"`

	// How often expired sessions are removed; 0 turns that off. Default: 5m.
	CleanupInterval *caddy.Duration `json:"cleanup_interval,omitempty"`

	// How many calls of the store may be under way at a time. A request that
	// would make one more gets a 503 with Retry-After at once, instead of
	// waiting with the others for a store that is slow. Default: 1024.
	MaxCalls int `json:"max_calls,omitempty"`
}

// EmbeddedConfig configures the embedded node.
type EmbeddedConfig struct {
	// The SQLite file. Default: sessions.db in Caddy's data directory. Only
	// one process at a time can have it open. While it does, the newest sessions
	// are in files beside it: in a container its directory has to be the volume.
	// Placeholders like {env.NAME} are replaced when the config is loaded.
	File string `json:"file,omitempty"`

	// When a write is acknowledged: `full` once it is on the disk, `normal`
	// once the operating system has it (a power cut may then lose the last
	// writes, a crash of Caddy does not). Default: full.
	Synchronous string `json:"synchronous,omitempty"`
}

// RqliteConfig configures the connection to an rqlite cluster. In addresses, in the
// name and the password, and in the names of files placeholders like {env.NAME} and
// {file.PATH} are replaced when the config is loaded.
type RqliteConfig struct {
	// The HTTP addresses of the nodes, like http://n1:4001. Name them all:
	// credentials are sent to no others. With https:// nobody can read them on
	// the way.
	Addresses []string `json:"addresses"`

	// The name of the rqlite user; it needs the permissions execute and query.
	Username string `json:"username,omitempty"`

	// The password of that user. Write {env.NAME} or {file.PATH} here: a
	// literal password can be read in Caddy's config.
	Password string `json:"password,omitempty"`

	// A file of PEM certificates to verify the nodes with. Default: those of the system.
	TLSCA string `json:"tls_ca,omitempty"`

	// The client's certificate, a PEM file, for nodes that ask for one.
	TLSCertificate string `json:"tls_certificate,omitempty"`

	// The key of that certificate, a PEM file.
	TLSKey string `json:"tls_key,omitempty"`

	// Accepts any certificate of the nodes. For tests only: whoever sits in
	// between can then read and change every session.
	TLSInsecureSkipVerify bool `json:"tls_insecure_skip_verify,omitempty"`

	// How fresh a read is: none, weak, linearizable or strong, as rqlite
	// defines them. With less than linearizable a session that was logged out
	// may be seen for some time; with none it may take some time, too, until one
	// that was begun, or its new token, is found. Default: linearizable.
	Consistency string `json:"consistency,omitempty"`

	// How long one node may take for one attempt before the next one is
	// tried. Default: 2s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
}

const (
	defaultTable           = "sessions"
	defaultCleanupInterval = 5 * time.Minute
)

var (
	consistencyLevels = []string{"none", "weak", "linearizable", "strong"}
	synchronousModes  = []string{"full", "normal"}
	tableName         = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
)

// inherit returns the settings of c, with those of the defaults where c is open.
// A store and its address belong together: naming one leaves the default's out.
func (c *StoreConfig) inherit(defaults *StoreConfig) *StoreConfig {
	if c == nil || defaults == nil {
		return cmp.Or(c, defaults)
	}
	merged := *c
	if c.Embedded == nil && c.Rqlite == nil {
		merged.Embedded, merged.Rqlite = defaults.Embedded, defaults.Rqlite
	}
	inherit(&merged.Table, defaults.Table)
	inherit(&merged.CleanupInterval, defaults.CleanupInterval)
	inherit(&merged.MaxCalls, defaults.MaxCalls)
	return &merged
}

// check reports a configuration that cannot be meant.
func (c *StoreConfig) check() error {
	if c == nil {
		return nil
	}
	if c.Embedded != nil && c.Rqlite != nil {
		return errors.New("a session has one store: choose embedded or rqlite")
	}
	if c.Table != "" && (!tableName.MatchString(c.Table) || hasPrefixFold(c.Table, "sqlite_")) {
		return fmt.Errorf("table %q is no name for a table: use letters, digits and _, not starting with a digit or sqlite_", c.Table)
	}
	if c.CleanupInterval != nil {
		if *c.CleanupInterval < 0 {
			return fmt.Errorf("cleanup_interval must be a positive duration, or 0 to turn it off, not %v", time.Duration(*c.CleanupInterval))
		}
		if err := checkDuration("cleanup_interval", *c.CleanupInterval, leastDuration); err != nil {
			return err
		}
	}
	if c.MaxCalls < 0 {
		return fmt.Errorf("max_calls must be a positive number, not %d", c.MaxCalls)
	}
	if c.Embedded != nil {
		if err := checkChoice("synchronous", c.Embedded.Synchronous, synchronousModes); err != nil {
			return err
		}
	}
	if c.Rqlite != nil {
		return c.Rqlite.check()
	}
	return nil
}

func (c *RqliteConfig) check() error {
	if len(c.Addresses) == 0 {
		return errors.New("rqlite needs the address of at least one node, like http://localhost:4001")
	}
	for _, address := range c.Addresses {
		if strings.Contains(address, "{") {
			continue // resolved, and checked again, when the config is loaded
		}
		if err := checkAddress(address); err != nil {
			return err
		}
	}
	if c.Password != "" && c.Username == "" {
		return errors.New("password without username: rqlite knows its users by name")
	}
	if (c.TLSCertificate == "") != (c.TLSKey == "") {
		return errors.New("tls_cert needs both a certificate and its key")
	}
	if c.hasTLS() && !slices.ContainsFunc(c.Addresses, func(address string) bool { return !strings.HasPrefix(address, "http://") }) {
		return errors.New("tls options have no effect on http:// addresses: write https:// to speak TLS with the nodes")
	}
	if err := checkDuration("timeout", c.Timeout, leastDuration); err != nil {
		return err
	}
	return checkChoice("consistency", c.Consistency, consistencyLevels)
}

// hasTLS reports whether any option is about TLS.
func (c *RqliteConfig) hasTLS() bool {
	return c.TLSCA != "" || c.TLSCertificate != "" || c.TLSInsecureSkipVerify
}

// checkAddress accepts http(s)://host[:port] and nothing else.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q is no address of an rqlite node: write http://host:4001 or https://host:4001", redact(address))
	case u.User != nil:
		return fmt.Errorf("the address of %s carries credentials: use the options username and password", u.Host)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("the address %q has more than scheme, host and port: write %s://%s", redact(address), u.Scheme, u.Host)
	}
	return nil
}

// redact keeps what may be a password out of an error.
func redact(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return "…" + address[at:]
	}
	return address
}
