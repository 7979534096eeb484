package embedded_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a node refuses it refuses however it is written.
func TestGuard_isNotGotAround(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	other := filepath.Join(t.TempDir(), "other.db")
	for sql, want := range map[string]string{
		"/* a */ ATTACH '" + other + "' AS other":        "ATTACH is not supported",
		"-- a\n/* b */;ATTACH '" + other + "' AS other":  "ATTACH is not supported",
		"/*/ a */ATTACH '" + other + "' AS other":        "ATTACH is not supported",
		"\ufeff\f ATTACH '" + other + "' AS other":       "ATTACH is not supported",
		"SELECT 1; ATTACH '" + other + "' AS other":      "ATTACH is not supported",
		"VACUUM INTO '" + other + "'":                    "VACUUM INTO is not supported",
		"VACUUM main into '" + other + "'":               "VACUUM INTO is not supported",
		"PRAGMA \"journal_mode\"=DELETE":                 "disallowed pragma",
		"PRAGMA [journal_mode] = DELETE":                 "disallowed pragma",
		"PRAGMA/**/main.\"synchronous\"(0)":              "disallowed pragma",
		"PRAGMA 'main'.`locking_mode` = EXCLUSIVE":       "disallowed pragma",
		"PRAGMA fullfsync = 0":                           "disallowed pragma",
		"PRAGMA query_only = 0":                          "disallowed pragma",
		"PRAGMA writable_schema = 1":                     "disallowed pragma",
		"PRAGMA wal_autocheckpoint = 1":                  "disallowed pragma",
		"/* a */ SAVEPOINT a":                            "SAVEPOINT is not supported",
		"SELECT 1; /* of a transaction */ COMMIT; BEGIN": "COMMIT is not supported",
	} {
		body, err := json.Marshal([]string{sql})
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"/db/execute", "/db/request"} {
			if status, answer := roundTrip(t, n, target, string(body)); status != 200 || !strings.Contains(answer, want) {
				t.Errorf("%s of %s: %d %s, want %s", target, sql, status, answer, want)
			}
		}
	}
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Errorf("the other file is there (%v)", err)
	}
}
