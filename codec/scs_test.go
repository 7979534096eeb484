package codec_test

import (
	"bytes"
	"context"
	"math"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/caddy-session/caddy-session/codec"
)

// TestSessionManager_typedGettersFindWhatPutStored loads, changes and commits a
// session of scs three times and asks every typed getter after each.
func TestSessionManager_typedGettersFindWhatPutStored(t *testing.T) {
	t.Parallel()
	m := scs.New()
	m.Store = memstore.NewWithCleanupInterval(0)
	m.Codec = codec.JSON{}

	load := func(token string) context.Context {
		t.Helper()
		ctx, err := m.Load(context.Background(), token)
		if err != nil {
			t.Fatal(err)
		}
		return ctx
	}
	commit := func(ctx context.Context) string {
		t.Helper()
		token, _, err := m.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}

	at := time.Date(2026, 5, 4, 12, 0, 0, 1, time.FixedZone("", 7200))
	ctx := load("")
	m.Put(ctx, "string", "Zoë")
	m.Put(ctx, "bool", true)
	m.Put(ctx, "int", math.MaxInt)
	m.Put(ctx, "int64", int64(math.MinInt64))
	m.Put(ctx, "int32", int32(math.MaxInt32))
	m.Put(ctx, "float", 3.0)
	m.Put(ctx, "bytes", []byte{0, 0xff})
	m.Put(ctx, "time", at)
	m.RememberMe(ctx, true)
	token := commit(ctx)
	ends := m.Deadline(ctx)

	for round := range 3 {
		ctx := load(token)
		if v := m.GetString(ctx, "string"); v != "Zoë" {
			t.Errorf("round %d: GetString %q", round, v)
		}
		if !m.GetBool(ctx, "bool") || !m.GetBool(ctx, "__rememberMe") {
			t.Errorf("round %d: GetBool false", round)
		}
		if v := m.GetInt(ctx, "int"); v != math.MaxInt {
			t.Errorf("round %d: GetInt %d", round, v)
		}
		if v := m.GetInt64(ctx, "int64"); v != math.MinInt64 {
			t.Errorf("round %d: GetInt64 %d", round, v)
		}
		if v := m.GetInt32(ctx, "int32"); v != math.MaxInt32 {
			t.Errorf("round %d: GetInt32 %d", round, v)
		}
		if v := m.GetFloat(ctx, "float"); v != 3 {
			t.Errorf("round %d: GetFloat %v", round, v)
		}
		if v := m.GetBytes(ctx, "bytes"); !bytes.Equal(v, []byte{0, 0xff}) {
			t.Errorf("round %d: GetBytes %x", round, v)
		}
		if v := m.GetTime(ctx, "time"); !v.Equal(at) || v.Format(time.RFC3339Nano) != at.Format(time.RFC3339Nano) {
			t.Errorf("round %d: GetTime %v", round, v)
		}
		if v := m.Deadline(ctx); !v.Equal(ends) {
			t.Errorf("round %d: Deadline %v, want %v", round, v, ends)
		}
		if v := m.GetInt(ctx, "rounds"); v != round {
			t.Errorf("round %d: counted %d", round, v)
		}
		m.Put(ctx, "rounds", round+1)
		token = commit(ctx)
	}
}

func TestSessionManager_aValueThatCannotBeStoredIsAnErrorOfCommit(t *testing.T) {
	t.Parallel()
	m := scs.New()
	m.Store = memstore.NewWithCleanupInterval(0)
	m.Codec = codec.JSON{}
	ctx, err := m.Load(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	m.Put(ctx, "cart", account{})
	if _, _, err := m.Commit(ctx); err == nil {
		t.Error("a struct was committed")
	}
}
