package caddysession

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzCookie reads the Cookie lines of a request, plain and with keys. What it
// checks: nothing but what was issued, or could have been where there are no keys,
// comes out, no cookie under our names stays, and all others do, byte for byte.
func FuzzCookie(f *testing.F) {
	token := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	ring := &keyring{keys: []*key{testKey(f, "one"), testKey(f, "two")}}
	signed := map[string]ticket{} // by what the cookie says
	for _, k := range append(ring.keys, testKey(f, "unknown")) {
		for _, t := range []string{token, "B" + token[1:]} {
			signed[k.write(t)] = ticket{t, k}
		}
	}
	known := func(value string) (ticket, bool) {
		t, ok := signed[value]
		return t, ok && slices.Contains(ring.keys, t.key)
	}
	for value := range signed {
		f.Add("session="+value, false)
		f.Add("a=1; __Host-session="+value+"; session="+token, true)
	}
	for _, lines := range []string{
		"", "a=1", "session=" + token, "session=" + token + "; a=1", "a=1;session=" + token + " ;b", "__Host-session=" + token,
		"session=" + token + "\nsession=" + token, "session=" + token + "\nsession=B" + token[1:], "session;;; =;==session=",
		`session="` + token + `"`, "session=" + token[:42] + "B", "\tsession\t=" + token, "session =" + token, " ;session=" + token,
		"Session=" + token, "xsession=1; session2=2", "session=\xff\x00", strings.Repeat("session="+token+";", 400),
	} {
		f.Add(lines, false)
		f.Add(lines, true)
	}
	jar := newCookieJar(nil)
	f.Fuzz(func(t *testing.T, text string, secure bool) {
		lines := strings.Split(text, "\n")
		header := http.Header{"Cookie": slices.Clone(lines)}
		signedHeader := http.Header{"Cookie": slices.Clone(lines)}

		plain, sealed := map[ticket]bool{}, map[ticket]bool{}
		for _, line := range lines {
			for pair := range strings.SplitSeq(line, ";") {
				value, ours := strings.CutPrefix(strings.Trim(pair, " \t"), jar.name(secure)+"=")
				if ours && issued(value) {
					plain[ticket{token: value}] = true
				}
				if found, ok := known(value); ours && ok {
					sealed[found] = true
				}
			}
		}
		wantTaken(t, jar.take(header, secure, nil), plain)
		wantTaken(t, jar.take(signedHeader, secure, ring), sealed)
		if !slices.Equal(header["Cookie"], signedHeader["Cookie"]) {
			t.Errorf("with keys %q is left, without %q", signedHeader["Cookie"], header["Cookie"])
		}
		if got, want := others(header["Cookie"], nil), others(lines, jar.owns); !slices.Equal(got, want) {
			t.Errorf("the other cookies are %q, want %q", got, want)
		}
		before := slices.Clone(header["Cookie"])
		if again := jar.take(header, secure, nil); again != (taken{}) || !slices.Equal(header["Cookie"], before) {
			t.Errorf("a second look finds %+v and makes %q of %q", again, header["Cookie"], before)
		}
	})
}

// wantTaken checks what was taken against all that the request carries.
func wantTaken(t *testing.T, got taken, all map[ticket]bool) {
	t.Helper()
	if got.ambiguous != (len(all) > 1) {
		t.Errorf("ambiguous: %v, of %d", got.ambiguous, len(all))
	}
	if len(all) == 1 && !all[got.ticket] || len(all) != 1 && got.token != "" {
		t.Errorf("got %q of %v", got.token, all)
	}
}

func testKey(t testing.TB, name string) *key {
	t.Helper()
	return newKey(strings.Repeat(name, 32))
}

// issued reports whether a value is one that encoding 32 bytes gives.
func issued(value string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(value)
	return err == nil && len(raw) == 32 && base64.RawURLEncoding.EncodeToString(raw) == value
}

// others are the cookies of the lines that have something in them, but for those
// that are left out. What stands before the first of a line does not count.
func others(lines []string, leaveOut func(name string) bool) (pairs []string) {
	for _, line := range lines {
		first := true
		for pair := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if strings.Trim(pair, " \t") == "" || leaveOut != nil && leaveOut(name) {
				continue
			}
			if first {
				pair = strings.TrimLeft(pair, " \t")
			}
			pairs, first = append(pairs, pair), false
		}
	}
	return pairs
}
