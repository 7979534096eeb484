package process

import (
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
)

// RqlitedVersion is the version that rqlited gives.
func RqlitedVersion() string { return word(os.Getenv("RQLITED"), "-version", "rqlited ") }

// RedisVersion is the version that redis-server gives.
func RedisVersion() string { return word("redis-server", "--version", "v=") }

// word runs a program and returns the word after a prefix in what it prints.
func word(bin, flag, prefix string) string {
	out, err := exec.Command(bin, flag).CombinedOutput()
	if err != nil {
		return "none"
	}
	_, rest, ok := strings.Cut(string(out), prefix)
	if !ok {
		return "unknown"
	}
	v, _, _ := strings.Cut(rest, " ")
	return v
}

// ModuleVersion is the version of a module that this program was built with.
func ModuleVersion(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return "unknown"
}
