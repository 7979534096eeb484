package caddysession

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// KeysConfig turns on signed cookies and sealed rows. Whoever can read the
// database then learns neither values nor names, whoever can write to it can
// make no session, and a forged cookie costs no call of the store.
type KeysConfig struct {
	// The secrets, of one line and at least 32 characters each; `caddy session keygen`
	// makes one. The first signs and seals, all of them open. To rotate, append the
	// new one on every Caddy, then put it first, and drop the old one when
	// `caddy session stats` counts no rows under it any more. Placeholders like
	// {env.NAME} and {file.PATH} are replaced when the config is loaded; a
	// literal secret can be read in Caddy's config.
	Secrets []string `json:"secrets"`

	// Until when rows and cookies from before there were keys are accepted, like
	// 2026-12-31T00:00:00Z. They are sealed when they are first used. Default: they
	// are not accepted.
	PlainUntil *time.Time `json:"plain_until,omitempty"`
}

const minSecret = 32 // characters

// check reports a configuration that cannot be meant.
func (c *KeysConfig) check() error {
	if c == nil {
		return nil
	}
	if len(c.Secrets) == 0 {
		return errors.New("keys needs at least one secret: make one with `caddy session keygen`, and name it {env.NAME} or {file.PATH} here")
	}
	for i, secret := range c.Secrets {
		if slices.Contains(c.Secrets[:i], secret) {
			return errors.New("keys names the same secret twice")
		}
		if strings.HasSuffix(secret, "},") { // or it would be a part of the secret
			return errors.New("the secrets of keys stand with a blank between them, and no comma")
		}
		if hasUnescapedPlaceholder(secret) {
			continue // resolved, and checked again, when the config is loaded
		}
		if _, err := os.Stat(secret); err == nil { // or a name that can be guessed would be the secret
			return fmt.Errorf("a secret of keys is the name of a file, %s: write {file./the/whole/path} for what is in it", secret)
		}
		if err := checkSecret(secret); err != nil {
			return err
		}
	}
	return nil
}

func checkSecret(secret string) error {
	// Two secrets in one file would be one that was never meant. A text in UTF-16 ends with a line end and a NUL.
	if strings.ContainsAny(strings.TrimRight(secret, "\r\n\x00"), "\r\n") {
		return errors.New("a secret of keys has several lines: give each secret a file or a variable of its own, and write one that is wrapped on one line")
	}
	if len(secret) < minSecret {
		return fmt.Errorf("a secret of keys has %d characters, it must have %d at least: make one with `caddy session keygen`", len(secret), minSecret)
	}
	return nil
}

// newKeyring derives the keys; nil where none are configured.
func newKeyring(c *KeysConfig, logger *zap.Logger) (*keyring, error) {
	if c == nil {
		return nil, nil
	}
	ring := new(keyring)
	for _, option := range c.Secrets {
		secret, err := resolveSecret(option, logger)
		if err != nil {
			return nil, err
		}
		k := newKey(secret)
		if ring.find(k.id) != nil {
			return nil, errors.New("two of the secrets of keys are the same")
		}
		ring.keys = append(ring.keys, k)
	}
	if c.PlainUntil != nil {
		ring.plainUntil = *c.PlainUntil
	}
	if ring.acceptsPlain() {
		logger.Warn("sessions from before keys are accepted for now: until then whoever can write to the database can add one", zap.Time("plain_until", ring.plainUntil))
	}
	return ring, nil
}

func resolveSecret(option string, logger *zap.Logger) (string, error) {
	if !hasUnescapedPlaceholder(option) {
		logger.Warn("a secret of keys stands in the config, where the admin API and the autosave show it; write {env.NAME} or {file.PATH} instead")
	}
	secret, err := caddy.NewReplacer().ReplaceOrErr(option, true, true)
	if err != nil {
		// The option may hold a part of the secret beside its placeholder.
		return "", unresolved("a secret of keys", option)
	}
	secret = strings.TrimSpace(secret)
	return secret, checkSecret(secret)
}
