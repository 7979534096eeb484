package embedded_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	node := embedded.New(filepath.Join(dir, "sessions.db"), embedded.Options{})
	defer node.Close()
	conn, err := node.Connection()
	if err != nil {
		log.Fatal(err)
	}

	if _, err := conn.WriteOne("CREATE TABLE visits (page TEXT PRIMARY KEY, n INTEGER NOT NULL)"); err != nil {
		log.Fatal(err)
	}
	for _, page := range []string{"/", "/about", "/"} {
		_, err := conn.WriteOneParameterized(gorqlite.ParameterizedStatement{
			Query:     "INSERT INTO visits VALUES(?, 1) ON CONFLICT(page) DO UPDATE SET n = n + 1",
			Arguments: []any{page},
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	rows, err := conn.QueryOne("SELECT page, n FROM visits ORDER BY page")
	if err != nil {
		log.Fatal(err)
	}
	for rows.Next() {
		var page string
		var n int64
		if err := rows.Scan(&page, &n); err != nil {
			log.Fatal(err)
		}
		fmt.Println(page, n)
	}
	// Output:
	// / 2
	// /about 1
}
