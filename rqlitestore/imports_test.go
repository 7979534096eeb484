package rqlitestore_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A program that uses the library gets nothing of Caddy with it.
func TestImports_nothingOfCaddy(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := string(out)
	if !strings.Contains(imports, "github.com/rqlite/gorqlite\n") || strings.Contains(imports, "github.com/caddyserver/") {
		t.Errorf("the library imports\n%s", imports)
	}
}
