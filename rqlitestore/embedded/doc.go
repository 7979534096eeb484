// Package embedded is a single rqlite node inside the process: it answers rqlite's HTTP API from a SQLite file.
package embedded
