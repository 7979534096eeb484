package caddysession

import (
	"slices"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// principalHash is what the table holds of a principal's name.
func (r *keyring) principalHash(name string) string {
	if r == nil || name == "" {
		return name
	}
	return r.first().principal.text(name)
}

// principalHashes are all that the table may hold of a principal's name.
func (r *keyring) principalHashes(name string) []string {
	var hashes []string
	for _, k := range r.all() {
		hashes = append(hashes, k.principal.text(name))
	}
	if r.acceptsPlain() {
		hashes = append(hashes, name)
	}
	return hashes
}

// movedPrincipal is what the table is to hold of a row's principal when the row
// moves to the first key, for a `session` that does not know which of the values
// names the user. Otherwise nobody would find the row by its principal once the
// other key is gone.
func (r *keyring) movedPrincipal(rec rqlitestore.Record) (string, error) {
	if rec.Principal == "" || r.keyOfRow(rec.Data) == r.first() {
		return rec.Principal, nil
	}
	_, values, err := r.values(rec)
	if err != nil {
		return "", err
	}
	return r.underFirstKey(rec.Principal, values), nil
}

// samePrincipal reports whether two rows of a session, of which the newer one
// has these values, belong to the same user: the key of the hash may be another.
func (r *keyring) samePrincipal(older, newer string, values map[string]any) bool {
	return older == newer || r.underFirstKey(older, values) == r.underFirstKey(newer, values)
}

// countNaming counts the values that may name a principal, and those of them that
// did not before.
func (r *keyring) countNaming(principal string, values, before map[string]any) (named, fresh int) {
	for key, value := range values {
		if object := objectIn(value); object != nil {
			n, f := r.countNaming(principal, object, objectIn(before[key]))
			named, fresh = named+n, fresh+f
			continue
		}
		name := nameIn(value)
		if name == "" || !slices.Contains(r.principalHashes(name), principal) {
			continue
		}
		named++
		if nameIn(before[key]) != name {
			fresh++
		}
	}
	return named, fresh
}

// underFirstKey returns the hash under the first key of a principal whose hash
// is under any. The name is the value that gives the hash at hand; where no value
// does, the hash stays as it is.
func (r *keyring) underFirstKey(principal string, values map[string]any) string {
	if r == nil || principal == "" {
		return principal
	}
	for _, value := range values {
		if object := objectIn(value); object != nil {
			if moved := r.underFirstKey(principal, object); moved != principal {
				return moved
			}
			continue
		}
		if name := nameIn(value); name != "" && slices.Contains(r.principalHashes(name), principal) {
			return r.principalHash(name)
		}
	}
	return principal
}
