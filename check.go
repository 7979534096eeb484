package caddysession

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// What may stand in more than one option is checked here, what belongs to one of
// them beside it.

// checkKey reports what is no key of a session where a configuration names one:
// it would be one that no session ever has.
func checkKey(key string) error {
	switch {
	case isReserved(key):
		return fmt.Errorf("%q: keys that begin with %s are the session's own", key, reserved)
	case hasPlaceholder(key):
		return fmt.Errorf("%s: the key of a value of the session stands here, like user, and no placeholder", key)
	case strings.HasSuffix(key, ","):
		return fmt.Errorf("%q: keys stand with a blank between them, and no comma", key)
	}
	return nil
}

// checkLongForm reports a short form where it would be a placeholder that does
// not exist and is always empty: in JSON.
func checkLongForm(option, text string) error {
	if long := longForm(text); long != text {
		return fmt.Errorf("%s %s: short forms of placeholders are for Caddyfiles; write %s", option, text, long)
	}
	return nil
}

// checkChoice reports a word that is none of the choices; "" is one that is not set.
func checkChoice(option, value string, choices []string) error {
	if value == "" || slices.Contains(choices, value) {
		return nil
	}
	return fmt.Errorf("unknown %s %q: use %s", option, value, strings.Join(choices, ", "))
}

// leastDuration is the shortest that anybody means: a number in JSON is nanoseconds, and
// who takes it for seconds would have sessions that end at once, and loops without a pause.
const leastDuration = time.Millisecond

// checkDuration reports a duration that cannot be meant; 0 is one that is not set.
func checkDuration(option string, value caddy.Duration, least time.Duration) error {
	switch d := time.Duration(value); {
	case d < 0:
		return fmt.Errorf("%s must be a positive duration, not %v", option, d)
	case d > 0 && d < least:
		return fmt.Errorf(`%s is %v, which is too short to be meant: a number in JSON is nanoseconds, write a text like "30m" there`, option, d)
	}
	return nil
}

// hasPlaceholder reports whether a name has what looks like a placeholder, where
// none is replaced: the text itself would be the name.
func hasPlaceholder(name string) bool {
	_, behind, found := strings.Cut(name, "{")
	return found && strings.Contains(behind, "}")
}

// hasUnescapedPlaceholder is hasPlaceholder for an option in which they are
// replaced, and which may have braces of its own.
func hasUnescapedPlaceholder(option string) bool {
	return hasPlaceholder(strings.ReplaceAll(option, `\{`, ""))
}
