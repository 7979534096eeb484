package caddysession

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// resolvedStore is a StoreConfig with its defaults and secrets in place.
type resolvedStore struct {
	file     string // of the embedded node; "" = a cluster
	rqlite   RqliteConfig
	tls      *tls.Config       // nil: the system's defaults
	tlsFiles [sha256.Size]byte // what the TLS files held
	table    string
	live     liveSettings
}

// liveSettings can be changed while a store is in use.
type liveSettings struct {
	cleanup     time.Duration
	synchronous string
	maxCalls    int64
}

// resolve replaces the placeholders and fills in the defaults.
func (c *StoreConfig) resolve(logger *zap.Logger) (*resolvedStore, error) {
	if c == nil {
		c = &StoreConfig{}
	}
	r := &resolvedStore{table: cmp.Or(c.Table, defaultTable), live: liveSettings{
		cleanup:  defaultCleanupInterval,
		maxCalls: int64(cmp.Or(c.MaxCalls, defaultMaxCalls)),
	}}
	if c.CleanupInterval != nil {
		r.live.cleanup = time.Duration(*c.CleanupInterval)
	}
	if c.Rqlite != nil {
		r.rqlite = *c.Rqlite
		return r, r.resolveRqlite(logger)
	}
	embedded := EmbeddedConfig{}
	if c.Embedded != nil {
		embedded = *c.Embedded
	}
	file, err := resolveOption("embedded file", embedded.File)
	if err != nil {
		return nil, err
	}
	if file == ":memory:" {
		return nil, errors.New("embedded file: sessions are kept in a file, not in memory: name one in a temporary directory")
	}
	file = cmp.Or(file, filepath.Join(caddy.AppDataDir(), "sessions.db"))
	if r.file, err = filepath.Abs(file); err != nil {
		return nil, fmt.Errorf("embedded file %s: %w", file, err)
	}
	r.live.synchronous = cmp.Or(embedded.Synchronous, "full")
	return r, nil
}

func (r *resolvedStore) resolveRqlite(logger *zap.Logger) error {
	c := &r.rqlite
	c.Consistency = cmp.Or(c.Consistency, cluster.DefaultLevel)
	c.Timeout = cmp.Or(c.Timeout, caddy.Duration(cluster.DefaultTimeout))
	c.Addresses = slices.Clone(c.Addresses)
	for i := range c.Addresses {
		address, err := resolveOption("address", c.Addresses[i])
		if err == nil {
			err = checkAddress(address)
		}
		if err != nil {
			return err
		}
		c.Addresses[i] = strings.TrimSuffix(address, "/")
	}
	if c.Password != "" && !hasUnescapedPlaceholder(c.Password) {
		logger.Warn("the rqlite password stands in the config, where the admin API and the autosave show it; write {env.NAME} or {file.PATH} instead")
	}
	for _, option := range []struct {
		name  string
		value *string
	}{
		{"username", &c.Username},
		{"password", &c.Password},
		{"tls_ca", &c.TLSCA},
		{"tls_cert", &c.TLSCertificate},
		{"tls_key", &c.TLSKey},
	} {
		resolved, err := resolveOption(option.name, *option.value)
		if err != nil {
			return err
		}
		*option.value = resolved
	}
	if c.TLSInsecureSkipVerify {
		logger.Warn("tls_insecure_skip_verify: the certificates of the rqlite nodes are not verified")
	}
	return r.loadTLS()
}

// warnOfPlainText warns of a password that leaves this machine as it is.
func (r *resolvedStore) warnOfPlainText(logger *zap.Logger) {
	if r.rqlite.Password == "" {
		return
	}
	plain := slices.DeleteFunc(slices.Clone(r.rqlite.Addresses), isSealedOrLocal)
	if len(plain) > 0 {
		logger.Warn("the rqlite password goes over the network unencrypted: give the nodes certificates and write https:// for their addresses, unless nobody else can listen there",
			zap.Strings("addresses", plain))
	}
}

// isSealedOrLocal reports whether what is sent to an address is sealed by TLS or stays on this machine.
func isSealedOrLocal(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "https" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// resolveOption replaces the placeholders of an option that must not come out empty.
func resolveOption(option, value string) (string, error) {
	resolved, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
	resolved = strings.TrimSpace(resolved)
	if err == nil && (resolved != "" || value == "") {
		return resolved, nil
	}
	if option == "password" { // a part of which may stand beside its placeholder
		return "", fmt.Errorf(`%w (a brace that belongs to it is written \{)`, unresolved(option, value))
	}
	return "", fmt.Errorf("%w (%s)", unresolved(option, value), redact(value))
}

// unresolved is the error for an option of which nothing is left.
func unresolved(option, value string) error {
	if strings.Contains(value, "{http.") {
		return fmt.Errorf("%s has a placeholder of requests, and there is none when the config is loaded; "+
			"a Caddyfile takes {file.NAME} for one unless it is a whole path: {file./etc/caddy/NAME}", option)
	}
	return fmt.Errorf("%s resolves to nothing: is the variable set, is the file there, and may Caddy's user read it?", option)
}

// loadTLS reads the certificates; their content is part of what the store is,
// so that a reload after they were replaced connects anew.
func (r *resolvedStore) loadTLS() error {
	c, digest := &r.rqlite, sha256.New()
	if !c.hasTLS() {
		return nil
	}
	r.tls = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.TLSInsecureSkipVerify}
	if c.TLSCA != "" {
		pem, err := os.ReadFile(c.TLSCA)
		if err != nil {
			return fmt.Errorf("tls_ca: %w", err)
		}
		r.tls.RootCAs = x509.NewCertPool()
		if !r.tls.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("tls_ca: %s holds no PEM certificate", c.TLSCA)
		}
		digest.Write(pem)
	}
	if c.TLSCertificate != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCertificate, c.TLSKey)
		if err != nil {
			return fmt.Errorf("tls_cert: %w", err)
		}
		r.tls.Certificates = []tls.Certificate{pair}
		for _, der := range pair.Certificate {
			digest.Write(der)
		}
	}
	digest.Sum(r.tlsFiles[:0])
	return nil
}

// identity names what the store is: two configurations with the same identity
// see the same rows.
func (r *resolvedStore) identity() string {
	if r.file != "" {
		return r.file + " " + r.table
	}
	addresses := slices.Sorted(slices.Values(r.rqlite.Addresses))
	return strings.Join(addresses, " ") + " " + r.table
}

// places are where the rows are found: on each node of a cluster are all of them.
func (r *resolvedStore) places() []string {
	if r.file != "" {
		return []string{r.identity()}
	}
	places := make([]string, 0, len(r.rqlite.Addresses))
	for _, address := range r.rqlite.Addresses {
		places = append(places, address+" "+r.table)
	}
	return places
}

// key names the connection in the pool: what cannot be changed on a live one.
// It is a digest, for the password is in it.
func (r *resolvedStore) key() string {
	if r.file != "" {
		return r.identity()
	}
	settings := r.rqlite
	settings.Addresses = slices.Sorted(slices.Values(settings.Addresses)) // in whatever order
	encoded, err := json.Marshal(settings)
	if err != nil {
		panic(err) // strings, numbers and booleans: it cannot fail
	}
	digest := sha256.New()
	digest.Write(encoded)
	digest.Write(r.tlsFiles[:])
	return r.identity() + " " + hex.EncodeToString(digest.Sum(nil))
}

// withTable puts the table behind a name of the store, unless it is the usual one.
func (r *resolvedStore) withTable(name string) string {
	if r.table == defaultTable {
		return name
	}
	return name + "/" + r.table
}

// name is how messages call the store.
func (r *resolvedStore) name() string {
	if r.file != "" {
		return fmt.Sprintf("the embedded store %s (table %s)", r.file, r.table)
	}
	return fmt.Sprintf("the rqlite cluster %s (table %s)", strings.Join(r.rqlite.Addresses, " "), r.table)
}
