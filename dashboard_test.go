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
	exported, missing := map[string]string{}, map[string]bool{} // exported: name → its labels
	for series := range s.scrape() {
		name, labels, _ := strings.Cut(series, "{")
		exported[name] = labels
	}

	asked := map[string]bool{}
	for _, query := range dashboardQueries(t) {
		names := metricName.FindAllString(query, -1)
		if len(names) == 0 {
			t.Errorf("a query asks for no metric of ours: %s", query)
		}
		for _, name := range names {
			asked[name] = true
			labels, is := exported[name]
			if !is {
				t.Errorf("the dashboard asks for %s, which is not exported", name)
			}
			for _, label := range labelsIn(query) {
				if !strings.Contains(","+labels, ","+label+`="`) {
					t.Errorf("the dashboard asks %s for the label %s, which it has not: %s", name, label, query)
				}
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

var (
	groupedBy = regexp.MustCompile(`\bby \(([^)]*)\)`)
	selected  = regexp.MustCompile(`([a-z_]+)=~?"`)
)

// labelsIn are the labels that a query groups by or selects.
func labelsIn(query string) (labels []string) {
	for _, group := range groupedBy.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
	}
	for _, label := range selected.FindAllStringSubmatch(query, -1) {
		labels = append(labels, label[1])
	}
	return labels
}

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
