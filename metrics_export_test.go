package caddysession

import (
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// AskNode asks the embedded node that has the file of a store open.
func AskNode(file, body string) string {
	all := live.ofFile(file)
	answer := httptest.NewRecorder()
	all[len(all)-1].node.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "http://127.0.0.1/db/request", strings.NewReader(body)))
	return answer.Body.String()
}

// ForgetStores drops what was counted for stores that are gone. A process of
// tests has hundreds of them, and each makes a scrape longer.
func ForgetStores() {
	_ = live.waitNoLonger() // a config without a session stopped, and the next test is not to see them
	there := live.byLabel()
	storeLabels.mu.Lock()
	defer storeLabels.mu.Unlock()
	for place, label := range storeLabels.byPlace {
		if there[label] != nil {
			continue
		}
		delete(storeLabels.byPlace, place)
		for _, c := range collectors {
			if vec, ok := c.(interface {
				DeletePartialMatch(prometheus.Labels) int
			}); ok {
				vec.DeletePartialMatch(prometheus.Labels{"store": label})
			}
		}
	}
	if len(storeLabels.byPlace) == 0 {
		clear(storeLabels.given)
	}
}
