package caddysession

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

func TestKeys_openOnlyWhatTheySealed(t *testing.T) {
	t.Parallel()
	ring := &keyring{keys: []*key{testKey(t, "new"), testKey(t, "old")}}
	data := []byte(`{"deadline":"2026-05-04T12:00:00Z","values":{"user":"alice"}}`)
	row := func(token, id string, version int64, data []byte) rqlitestore.Record {
		return rqlitestore.Record{Token: token, ID: id, Version: version, Data: data}
	}
	sealed := ring.first().sealRow(row("token", "id", 7, nil), data)
	if bytes.Contains(sealed, []byte("alice")) {
		t.Error("the sealed row shows a value")
	}
	if bytes.Equal(sealed, ring.first().sealRow(row("token", "id", 7, nil), data)) {
		t.Error("two seals are equal: the nonce is not random")
	}
	if opened, err := ring.openRow(row("token", "id", 7, sealed)); err != nil || !bytes.Equal(opened, data) {
		t.Fatalf("opened %q, %v", opened, err)
	}
	rotated := &keyring{keys: []*key{testKey(t, "newer"), testKey(t, "new")}}
	if opened, err := rotated.openRow(row("token", "id", 7, sealed)); err != nil || !bytes.Equal(opened, data) {
		t.Errorf("after a rotation: opened %q, %v", opened, err)
	}

	accepted := 0
	try := func(r *keyring, token, id string, version int64, data []byte) {
		if _, err := r.openRow(row(token, id, version, data)); err == nil {
			accepted++
		}
	}
	for i := range sealed {
		for bit := range 8 {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1 << bit
			try(ring, "token", "id", 7, changed)
		}
		try(ring, "token", "id", 7, sealed[:i])
	}
	try(ring, "token", "id", 7, append(bytes.Clone(sealed), 0))
	try(ring, "other", "id", 7, sealed)
	try(ring, "token", "other", 7, sealed)
	try(ring, "token", "id", 6, sealed)
	try(ring, "tokenid", "", 7, sealed)
	try(ring, "token", "id", 7, data)
	try(&keyring{keys: []*key{testKey(t, "other")}}, "token", "id", 7, sealed)
	try(nil, "token", "id", 7, sealed)
	if accepted != 0 {
		t.Errorf("%d changed rows were accepted", accepted)
	}
}

func TestKeys_acceptPlainRowsForATime(t *testing.T) {
	t.Parallel()
	ring := &keyring{keys: []*key{testKey(t, "new")}, plainUntil: time.Now().Add(time.Hour)}
	row := rqlitestore.Record{Token: "token", ID: "id", Version: 1, Data: []byte(`{}`)}
	if _, err := ring.openRow(row); err != nil {
		t.Errorf("before plain_until: %v", err)
	}
	ring.plainUntil = time.Now()
	if _, err := ring.openRow(row); !errors.Is(err, errPlainRow) {
		t.Errorf("after plain_until: %v", err)
	}
}

func TestTicket_forgedOnesAreMalformed(t *testing.T) {
	t.Parallel()
	first := testKey(t, "new")
	ring := &keyring{keys: []*key{first}}
	token := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	value := first.write(token)
	if found, is := ring.read(value); is != genuine || found != (ticket{token, first}) {
		t.Fatalf("a genuine cookie is %v: %+v", is, found)
	}
	for i := range value {
		for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ \"") {
			changed := []byte(value)
			changed[i] = c
			if _, is := ring.read(string(changed)); is == genuine && string(changed) != value {
				t.Errorf("%s is taken for genuine", changed)
			}
		}
		if _, is := ring.read(value[:i]); is != malformed && (is != plain || i != tokenLength) {
			t.Errorf("%s is %v", value[:i], is)
		}
	}
	if _, is := ring.read(token); is != plain {
		t.Errorf("a plain token is %v where there are keys", is)
	}
	if _, is := ring.read(testKey(t, "other").write(token)); is != unknownKey {
		t.Errorf("a cookie under another key is %v", is)
	}
	var none *keyring
	if _, is := none.read(value); is != unknownKey {
		t.Errorf("a signed cookie is %v where there are no keys", is)
	}
}

func TestKeys_rememberTheTokensInUse(t *testing.T) {
	t.Parallel()
	ring := &keyring{keys: []*key{testKey(t, "new")}}
	values := make(map[string]any)
	for i := range 3 * keptBefore {
		ring.putBefore(values, "presented again and again")
		ring.putBefore(values, fmt.Sprint(i))
	}
	before := values[beforeKey].([]string)
	if len(before) != keptBefore || !slices.Contains(before, "presented again and again") {
		t.Errorf("a session knows %q", before)
	}
}

func TestCountedTimes_countWhatIsNotSaid(t *testing.T) {
	t.Parallel()
	said := countedTimes{Sometimes: rate.Sometimes{Every: 3}}
	var times []int64
	for range 7 {
		said.Do(func(n int64) { times = append(times, n) })
	}
	if !slices.Equal(times, []int64{1, 3, 3}) {
		t.Errorf("of seven times it said %v", times)
	}
}
