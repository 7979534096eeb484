package caddysession

import (
	"slices"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// device is a session as its user sees it.
type device struct {
	// The public id.
	ID string `json:"id"`

	// Whether it is the session of this very request.
	Current bool `json:"current"`

	// When it was first stored.
	Created *time.Time `json:"created,omitempty"`

	// When it was last used, from what address and with what User-Agent; known
	// where track is on.
	Used      *time.Time `json:"used,omitempty"`
	Address   string     `json:"address,omitempty"`
	UserAgent string     `json:"user_agent,omitempty"`

	// When it ends unless it is used before.
	Expires time.Time `json:"expires"`
}

// devices lists the sessions of the one who asks, this one first: all of them, or
// of very many those that were stored or renewed last.
func (v deviceVisit) devices() (found []device, all bool, err error) {
	if found, all, err = v.newest(); err == nil && !all {
		found, err = v.addOwn(found)
	}
	slices.SortStableFunc(found, func(a, b device) int {
		switch {
		case a.Current != b.Current && a.Current:
			return -1
		case a.Current != b.Current:
			return 1
		}
		return b.seen().Compare(a.seen())
	})
	return found, all, err
}

// newest reads sessions until there are no more, or enough.
func (v deviceVisit) newest() (found []device, all bool, err error) {
	ctx, cancel := v.storeContext(loadTimeout)
	defer cancel()
	begun := time.Now()
	o := rqlitestore.ListOptions{Principals: v.h.lease.keys.principalHashes(v.principal), Limit: listPage}
	for {
		recs, next, err := v.h.backend.store.List(ctx, o)
		if err != nil {
			return nil, false, err
		}
		for _, rec := range recs {
			found = v.add(found, rec)
		}
		n := len(found)
		if next == "" || n >= deviceCounted || n > deviceShown && time.Since(begun) > deviceTime {
			return found, next == "", nil
		}
		o.After = next
	}
}

// add adds a row, unless it is somebody else's or cannot be read.
func (v deviceVisit) add(found []device, rec rqlitestore.Record) []device {
	s, kept := v.h.lease.describe(rec)
	if s.Unreadable || v.h.principalIn(kept) != v.principal {
		return found
	}
	return append(found, device{s.ID, s.ID == v.ID(), s.Created, s.Used, s.Address, s.UserAgent, s.Expires})
}

// addOwn adds the session at hand where it is too old to have been found.
func (v deviceVisit) addOwn(found []device) ([]device, error) {
	if slices.ContainsFunc(found, func(d device) bool { return d.Current }) {
		return found, nil
	}
	ctx, cancel := v.storeContext(loadTimeout)
	defer cancel()
	rec, there, err := v.h.backend.store.Current(ctx, v.ID())
	if err != nil || !there {
		return found, err
	}
	return v.add(found, rec), nil
}

// seen is when something was last heard of a session.
func (d device) seen() time.Time {
	switch {
	case d.Used != nil:
		return *d.Used
	case d.Created != nil:
		return *d.Created
	}
	return time.Time{}
}
