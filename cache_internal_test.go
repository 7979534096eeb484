package caddysession

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// However many sessions are read, that those of a user have ended is not forgotten
// while one of them could still be answered from memory.
func TestReadCache_forgetsNoEnd(t *testing.T) {
	for name, key := range map[string]string{"of a principal": principalEntry("alice"), "of an id": "id of alice"} {
		t.Run(name, func(t *testing.T) {
			c := filledCache(t, time.Minute)
			c.end(key)
			c.fill("newer", "bob")
			if _, ok := c.get("token of alice", time.Minute); ok {
				t.Error("a session that has ended is answered from memory")
			}
		})
	}
}

// What has ended is not remembered for longer than it has to be, so a handler for
// which answers may be older has none from before.
func TestReadCache_forgetsWhatWasReadWhenAnswersMayBeOlder(t *testing.T) {
	synctest.Test(t, testForgetsWhatWasRead)
}

func testForgetsWhatWasRead(t *testing.T) {
	c := newTestCache(t, time.Second)
	c.store("alice", 0)
	c.end(principalEntry("alice"))
	c.allow(time.Minute)
	b := new(backend)
	b.cache.Store(c.readCache)
	b.touched("token of alice", time.Now().Add(time.Hour)) // by a request that read it before: it is kept for a minute from here
	<-time.After(10 * time.Second)
	if _, known := c.entries.GetIfPresent(principalEntry("alice")); known {
		t.Fatal("the end is still known")
	}
	if _, ok := c.get("token of alice", time.Minute); ok {
		t.Error("a session that has ended is answered from memory")
	}
	c.allow(time.Second)
	<-time.After(time.Nanosecond) // what is read at the same moment is as old as the rest
	c.store("bob", 0)
	<-time.After(10 * time.Second)
	if _, ok := c.get("token of bob", time.Minute); !ok {
		t.Error("what was read since is not answered from memory for as long as it may be")
	}
	if _, ok := c.get("token of bob", 10*time.Second); ok {
		t.Error("a handler for which that is too old is answered from memory")
	}
}

// A read that was under way when something ended does not bring it back, nor does one
// that found an older version.
func TestReadCache_keepsNoReadFromBeforeAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ended := range []string{"token of alice", "id of alice", principalEntry("alice")} {
			c := newTestCache(t, time.Minute)
			<-time.After(time.Second)
			began := time.Now()
			<-time.After(time.Second)
			c.end(ended)
			c.storeAt("alice", 0, began)
			if _, ok := c.get("token of alice", time.Minute); ok {
				t.Errorf("after the end of %s it is answered from memory", ended)
			}
			<-time.After(time.Second)
			c.store("alice", 0)
			if _, ok := c.get("token of alice", time.Minute); !ok {
				t.Errorf("what was read after the end of %s is not answered from memory", ended)
			}
		}

		c := newTestCache(t, time.Minute)
		rec := rqlitestore.Record{ID: "id of bob", Expiry: time.Now().Add(time.Hour)}
		for _, rec.Version = range []int64{2, 1} {
			<-time.After(time.Second)
			c.put("token of bob", rec, nil, time.Now())
		}
		if e, _ := c.get("token of bob", time.Minute); e.rec.Version != 2 {
			t.Errorf("version 2 gave way to %d", e.rec.Version)
		}
	})
}

// What answers nobody any more takes no memory.
func TestReadCache_keepsNothingThatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, time.Millisecond)
		for n := range 1000 {
			c.store(fmt.Sprint(n), 0)
		}
		<-time.After(10 * time.Second)
		c.entries.CleanUp()
		if n := c.entries.EstimatedSize(); n != 0 {
			t.Errorf("%d sessions are kept that are too old for every handler", n)
		}
	})
}

type testCache struct{ *readCache }

func newTestCache(t testing.TB, age time.Duration) testCache {
	c := testCache{newReadCache()}
	t.Cleanup(func() { c.entries.StopAllGoroutines() })
	c.allow(age)
	return c
}

// filledCache has had more sessions than there is room for, and has alice's.
func filledCache(t testing.TB, age time.Duration) testCache {
	c := newTestCache(t, age)
	c.store("alice", 0)
	c.fill("older", "alice")
	for range 100 { // a full cache need not take what it is given
		if _, ok := c.get("token of alice", time.Minute); ok {
			return c
		}
		c.store("alice", 0)
	}
	t.Fatal("a session that is read often is not answered from memory")
	return c
}

// fill reads twice as many sessions as there is room for, and one beside each.
func (c testCache) fill(names, often string) {
	for n := range 2 * cacheWeight / (8 << 10) {
		c.store(fmt.Sprint(names, " ", n), 4<<10)
		c.get("token of "+often, time.Minute)
	}
	c.entries.CleanUp()
}

func (c testCache) store(name string, size int) { c.storeAt(name, size, time.Now()) }

func (c testCache) storeAt(name string, size int, began time.Time) {
	c.put("token of "+name, rqlitestore.Record{
		ID: "id of " + name, Principal: name, Version: 1, Data: make([]byte, size), Expiry: began.Add(time.Hour),
	}, nil, began)
	for range 3 {
		c.get("token of "+name, time.Minute)
	}
}
