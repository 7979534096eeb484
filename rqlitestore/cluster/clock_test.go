package cluster_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// That the clock of this machine or of a node is wrong is told once, and which way, and
// once that it is not any more.
func TestTransport_tellsOfClocksThatDiffer(t *testing.T) {
	t.Parallel()
	for off, want := range map[time.Duration]string{
		-time.Hour:       "ahead of the node's",
		-5 * time.Second: "", // a date has no fractions
		5 * time.Second:  "",
		time.Hour:        "behind the node's",
	} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			var looks atomic.Int64
			f := newFake(t, conduct{request: ok, probe: func(w http.ResponseWriter, r *http.Request) {
				date := time.Now()
				switch n := looks.Add(1); {
				case n <= 5:
					date = date.Add(off)
				case n <= 15: // answers may overtake each other, but not so many
					w.Header()["Date"] = nil
					ok(w, r)
					return
				}
				w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
				ok(w, r)
			}})
			var differs, agrees atomic.Int64
			tr := open(t, cluster.Config{Observe: func(e cluster.Event) {
				switch {
				case e.Kind == cluster.ClockDiffers && want != "" && strings.HasSuffix(e.Err.Error(), want):
					differs.Add(1)
				case e.Kind == cluster.ClockAgrees:
					agrees.Add(1)
				case e.Kind == cluster.ClockDiffers:
					t.Errorf("told that %v", e.Err)
				}
			}}, f)
			eventually(t, "the node is asked", func() bool { tr.Start(); return looks.Load() > 25 })
			told := int64(0)
			if want != "" {
				told = 1
			}
			eventually(t, "it is told that they agree", func() bool { return agrees.Load() >= told })
			if d, a := differs.Load(), agrees.Load(); d != told || a != told {
				t.Errorf("told %d times that the clocks differ, %d times that they agree: want %d", d, a, told)
			}
		})
	}
}
