package measure_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/measure"
)

func TestCompare_takesTurnsAndCountsFailures(t *testing.T) {
	t.Parallel()
	var order strings.Builder // one caller, so no lock is needed
	side := func(name string, err error) measure.Side {
		warm := false
		return measure.Side{Name: name, Op: func(_, n int) error {
			if n == 0 {
				if warm {
					order.WriteString(name)
				}
				warm = true
			}
			return err
		}}
	}
	plan := measure.Plan{Round: 2 * time.Millisecond, Warmup: time.Millisecond, Rounds: 4}
	got := measure.Compare(plan, 1, []measure.Side{side("a", nil), side("b", errors.New("no"))})
	if order.String() != "abbaabba" {
		t.Errorf("the sides worked in the order %s", order.String())
	}
	if got[0].Errors() != 0 {
		t.Errorf("a side that works has %d errors", got[0].Errors())
	}
	if got[1].Median(measure.Rate) != 0 {
		t.Errorf("a side that fails has a rate of %v", got[1].Median(measure.Rate))
	}
}

func TestRatio_isThatOfTheSameRound(t *testing.T) {
	t.Parallel()
	result := func(ops ...int) (r measure.Result) {
		for _, n := range ops {
			r.Samples = append(r.Samples, measure.Sample{Ops: n, Elapsed: time.Second})
		}
		return r
	}
	// The machine is slower from round to round; the ratio stays.
	if got := result(1000, 100, 10).Ratio(result(500, 50, 5), measure.Rate); got != 2 {
		t.Errorf("ratio %v, want 2", got)
	}
	if got := result(10, 20).Ratio(result(0, 5), measure.Rate); got != 4 {
		t.Errorf("ratio %v with a round in which nothing was finished, want 4", got)
	}
}

func TestGoal_saysWhetherItIsMet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		goal  measure.Goal
		ratio float64
		want  string
	}{
		{measure.Goal{Bound: 3}, 3.5, "3.50 x (goal ≥ 3.00: met)"},
		{measure.Goal{Bound: 3}, 2.5, "2.50 x (goal ≥ 3.00: missed)"},
		{measure.Goal{Bound: 1.05, Most: true}, 1.1, "1.10 x (goal ≤ 1.05: missed)"},
	} {
		if got := c.goal.Verdict(c.ratio); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
