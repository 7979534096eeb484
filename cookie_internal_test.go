package caddysession

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzCookie reads the Cookie lines of a request. What it checks: nothing but
// tokens in the form that is issued comes out, no cookie under our names stays,
// and all others do, byte for byte.
func FuzzCookie(f *testing.F) {
	token := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
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
		token, ambiguous := jar.take(header, secure)

		var want string
		all := map[string]bool{}
		for _, line := range lines {
			for pair := range strings.SplitSeq(line, ";") {
				if value, ok := strings.CutPrefix(strings.Trim(pair, " \t"), jar.name(secure)+"="); ok && issued(value) {
					want, all[value] = value, true
				}
			}
		}
		if len(all) > 1 {
			want = ""
		}
		if token != want || ambiguous != (len(all) > 1) {
			t.Errorf("got token %q (ambiguous: %v), want %q of %d", token, ambiguous, want, len(all))
		}
		if got, want := others(header["Cookie"], nil), others(lines, jar.owns); !slices.Equal(got, want) {
			t.Errorf("the other cookies are %q, want %q", got, want)
		}
		before := slices.Clone(header["Cookie"])
		if again, _ := jar.take(header, secure); again != "" || !slices.Equal(header["Cookie"], before) {
			t.Errorf("a second look finds %q and makes %q of %q", again, header["Cookie"], before)
		}
	})
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
