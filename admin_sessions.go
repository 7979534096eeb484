package caddysession

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"maps"
	"net/http"
	"strconv"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

// ListResult is a page of the sessions of a store.
type ListResult struct {
	// The name of the store.
	Store string `json:"store"`

	// The sessions, in no order that means anything.
	Sessions []SessionStatus `json:"sessions"`

	// What to pass as the parameter after for the next page; absent on the
	// last one. It is good until this Caddy is stopped.
	Next string `json:"next,omitempty"`
}

func adminList(w http.ResponseWriter, r *http.Request, s namedStore) error {
	query := r.URL.Query()
	name := query.Get("principal")
	after, err := openCursor(query.Get("after"), name)
	if err != nil {
		return err
	}
	o := rqlitestore.ListOptions{After: after}
	if name != "" {
		o.Principals = s.keys.principalHashes(name)
	}
	if limit := query.Get("limit"); limit != "" {
		if o.Limit, err = strconv.Atoi(limit); err != nil || o.Limit < 1 || o.Limit > listPage {
			return apiError(http.StatusBadRequest, "limit is a number from 1 to %d, not %q", listPage, limit)
		}
	}
	recs, next, err := s.backend.store.RqliteStore.List(r.Context(), o)
	if err != nil {
		return s.unavailable(err)
	}
	if len(recs) == 0 && len(o.Principals) > 0 && o.After == "" && s.unnamed() {
		return errNoPrincipals
	}
	result := ListResult{Store: s.name, Sessions: make([]SessionStatus, 0, len(recs)), Next: sealCursor(next, name)}
	for _, rec := range recs {
		if rec.ID == "" {
			continue // a row of another program that shares the table: no cookie leads to it
		}
		status, _ := s.describe(rec)
		result.Sessions = append(result.Sessions, status)
	}
	return writeJSON(w, result)
}

func adminShow(w http.ResponseWriter, r *http.Request, s namedStore) error {
	withValues, err := flag(r, "values")
	if err != nil {
		return err
	}
	rec, found, err := s.backend.store.RqliteStore.Current(r.Context(), r.PathValue("id"))
	if err != nil {
		return s.unavailable(err)
	}
	if !found {
		return errNoSession
	}
	status, kept := s.describe(rec)
	if withValues && !status.Unreadable {
		maps.DeleteFunc(kept, func(key string, _ any) bool { return isReserved(key) })
		if status.Values, err = codec.EncodeValue(kept); err != nil {
			return err
		}
	}
	return writeJSON(w, status)
}

var errNoSession = apiError(http.StatusNotFound, "there is no session with this id")

// errNoPrincipals keeps whoever looks for a user's sessions, or ends them, from
// taking "none" for an answer where nothing could have been found.
var errNoPrincipals = apiError(http.StatusBadRequest,
	"no session of this store is known to be of anybody: set the option principal to the key that names the user, and end the sessions from before by their ids or all at once")

// unnamed reports whether no handler on the store says which value names the user.
func (l *lease) unnamed() bool { return len(l.principalKeys) == 0 }

// cursors are sealed: where a page ends is the hash of a token, which is not to
// be shown and would stand in Caddy's log as part of the next request. They are good
// for the sessions of the same principal, or for all.
var cursorSeal = func() cipher.AEAD {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has a length of AES
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // the block is that of AES
	}
	return seal
}()

func sealCursor(next, principal string) string {
	if next == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(cursorSeal.Seal(nil, nil, []byte(next), []byte(principal)))
}

func openCursor(cursor, principal string) (after string, err error) {
	if cursor == "" {
		return "", nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return "", errCursor
	}
	opened, err := cursorSeal.Open(nil, nil, sealed, []byte(principal))
	if err != nil {
		return "", errCursor
	}
	return string(opened), nil
}

var errCursor = apiError(http.StatusBadRequest, "after is not from a page of this list, or not of this Caddy: begin again without it")
