package rqlitestore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Find returns the data stored under token. A token that is not there, has expired
// or whose data cannot be read is reported as false.
func (s *RqliteStore) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// FindCtx is Find with a context.
func (s *RqliteStore) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	packed, err := s.finds.do(ctx, call[string]{key: token, row: quotedHex(token)})
	if err != nil {
		return nil, false, fmt.Errorf("find session: %w", err)
	}
	if packed == "" {
		return nil, false, nil
	}
	data, readable, err := parseData(packed[0] == '1', packed[1:])
	if err != nil || !readable {
		return nil, false, err
	}
	return data, true, nil
}

// Commit stores data under token until expiry, in place of what was there. A
// token that was deleted is not brought back, see [Options.ReviveDeleted].
// After an error nobody knows whether it was stored. More than 15.5 MiB of data
// are refused.
func (s *RqliteStore) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// CommitCtx is Commit with a context.
func (s *RqliteStore) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	if err := checkSize(data); err != nil {
		return fmt.Errorf("commit session: %w", err)
	}
	if _, err := s.commits.do(ctx, call[struct{}]{key: token, row: commitRow(token, data, expiry)}); err != nil {
		return fmt.Errorf("commit session: %w", err)
	}
	return nil
}

// Delete removes token and its data. A token that is not there is no error.
func (s *RqliteStore) Delete(token string) error {
	return s.DeleteCtx(context.Background(), token)
}

// DeleteCtx is Delete with a context.
func (s *RqliteStore) DeleteCtx(ctx context.Context, token string) error {
	if _, err := s.deletes.do(ctx, call[struct{}]{key: token, row: quotedHex(token)}); err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	return nil
}

// All returns the data of every session that has not expired, by token. Data that
// cannot be read is an error; [RqliteStore.List] goes on past it.
func (s *RqliteStore) All() (map[string][]byte, error) {
	return s.AllCtx(context.Background())
}

// AllCtx is All with a context. It reads page by page, so it is no snapshot:
// sessions that come or go meanwhile may be in it or not.
func (s *RqliteStore) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all := make(map[string][]byte)
	for from := ""; ; {
		recs, more, err := s.page(ctx, from, pageRows)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		for _, rec := range recs {
			if rec.Data == nil {
				return nil, fmt.Errorf("list sessions: %w", errUnreadable)
			}
			all[rec.Token] = rec.Data
			from = behind(rec.Token)
		}
		if !more {
			return all, nil
		}
	}
}

var errUnreadable = errors.New("a row holds data that cannot be read")
