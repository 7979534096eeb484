package cluster_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// BenchmarkRoundTrip compares a lone request with one over a plain
// http.Transport, which is what gorqlite uses by itself.
func BenchmarkRoundTrip(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(ok))
	b.Cleanup(s.Close)
	tr, err := cluster.New(cluster.Config{Nodes: []string{s.URL}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(tr.Close)
	for name, rt := range map[string]http.RoundTripper{"plain": &http.Transport{}, "cluster": tr} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequest(http.MethodPost, s.URL+"/db/query?timings&level=linearizable", bytes.NewReader([]byte(`[["SELECT n FROM t"]]`)))
				if err != nil {
					b.Fatal(err)
				}
				res, err := rt.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadAll(res.Body); err != nil {
					b.Fatal(err)
				}
				_ = res.Body.Close() // it has been read
			}
		})
	}
}
