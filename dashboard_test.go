package caddysession_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every name that the Grafana dashboard asks for is one that Caddy exports, and
// every name that Caddy exports is in the README.
func TestDashboard_asksForWhatIsExported(t *testing.T) {
	s := start(t, "$METRICS {\nmetrics /metrics\n}\n$SITE {\nsession {\nrqlite $STORE\n}\nsession_edit increment n\nrespond ok\n}",
		"STORE", newStandIn(t).URL, "METRICS", "http://"+freeAddress(t))
	s.visitor().get("/").want(t, http.StatusOK, "ok")
	exported, missing := map[string]bool{}, map[string]bool{}
	for series := range s.scrape() {
		name, _, _ := strings.Cut(series, "{")
		exported[name] = true
	}

	asked := map[string]bool{}
	for _, query := range dashboardQueries(t) {
		names := metricName.FindAllString(query, -1)
		if len(names) == 0 {
			t.Errorf("a query asks for no metric of ours: %s", query)
		}
		for _, name := range names {
			asked[name] = true
			if !exported[name] {
				t.Errorf("the dashboard asks for %s, which is not exported", name)
			}
		}
	}

	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range exported {
		family := histogramPart.ReplaceAllString(name, "")
		if !asked[name] && family == name {
			t.Errorf("the dashboard does not show %s", name)
		}
		if short := strings.TrimPrefix(family, "caddy_session_"); !strings.Contains(string(readme), "`"+short+"`") {
			missing[short] = true
		}
	}
	if len(missing) > 0 {
		t.Errorf("the README does not name %v", missing)
	}
}

var (
	metricName    = regexp.MustCompile(`caddy_[a-z_]+`)
	histogramPart = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// dashboardQueries are all queries of the dashboard, wherever they stand.
func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	file, err := os.ReadFile("examples/grafana/session.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard any
	if err := json.Unmarshal(file, &dashboard); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for key, inner := range value {
				if text, ok := inner.(string); ok && (key == "expr" || key == "query" && strings.Contains(text, "caddy")) {
					queries = append(queries, text)
				}
				walk(inner)
			}
		case []any:
			for _, inner := range value {
				walk(inner)
			}
		}
	}
	walk(dashboard)
	if len(queries) < 15 {
		t.Fatalf("the dashboard has %d queries", len(queries))
	}
	return queries
}
