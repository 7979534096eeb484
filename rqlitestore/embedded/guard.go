package embedded

import (
	"errors"
	"strings"
)

// errPragma is rqlite's error for a PRAGMA that would take the database out of its hands.
var errPragma = errors.New("disallowed pragma")

// guard returns an error for a statement that must not run on the node's connections:
//
//   - transactions that a request opens or ends by itself would hold the writes of later requests
//     with them (use the transaction parameter),
//   - other files are out of bounds (ATTACH, VACUUM INTO),
//   - PRAGMAs that would undo durability or the reading from several connections.
func guard(sql string) error {
	s := sql
	switch first := nextWord(&s); first {
	case "pragma":
		return guardPragma(s)
	case "begin", "commit", "end", "rollback", "savepoint", "release":
		return errors.New(strings.ToUpper(first) + " is not supported: use the transaction parameter of the request")
	case "attach", "detach":
		return errors.New(strings.ToUpper(first) + " is not supported")
	case "vacuum":
		if strings.Contains(strings.ToLower(s), "into") {
			return errors.New("VACUUM INTO is not supported")
		}
	}
	return nil
}

// guardAll refuses a request as a whole for a PRAGMA, as rqlite does. Other statements are refused one by one.
func guardAll(list []statement) error {
	for _, s := range list {
		if err := guard(s.sql); err == errPragma {
			return err
		}
	}
	return nil
}

// guardPragma looks at what follows the word PRAGMA.
func guardPragma(s string) error {
	name := nextWord(&s)
	if strings.HasPrefix(skipSpace(s), ".") {
		s = skipSpace(s)[1:]
		name = nextWord(&s)
	}
	s = skipSpace(s)
	assigns := strings.HasPrefix(s, "=") || strings.HasPrefix(s, "(")
	switch name {
	case "wal_checkpoint":
		return errPragma
	case "journal_mode", "wal_autocheckpoint", "synchronous", "fullfsync", "query_only", "locking_mode", "writable_schema":
		if assigns {
			return errPragma
		}
	}
	return nil
}

// nextWord takes the next word off *s and returns it in lower case, without quotes. It is "" where
// there is no word.
func nextWord(s *string) string {
	t := skipSpace(*s)
	if t != "" && strings.IndexByte("\"'`[", t[0]) >= 0 {
		if end := strings.IndexAny(t[1:], "\"'`]"); end >= 0 {
			*s = t[end+2:]
			return strings.ToLower(t[1 : end+1])
		}
	}
	n := 0
	for n < len(t) && isWordByte(t[n]) {
		n++
	}
	*s = t[n:]
	return strings.ToLower(t[:n])
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// skipSpace skips space, comments and empty statements.
func skipSpace(s string) string {
	for {
		s = strings.TrimLeft(s, " \t\n\r\f\v;\ufeff")
		switch {
		case strings.HasPrefix(s, "--"):
			_, s, _ = strings.Cut(s, "\n")
		case strings.HasPrefix(s, "/*"):
			_, s, _ = strings.Cut(s[2:], "*/")
		default:
			return s
		}
	}
}
