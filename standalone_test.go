package caddysession_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// startAlone runs Caddy as it is shipped, in a process of its own with an
// environment of its own: what Go reads once when a process starts cannot be
// tested within this one.
func startAlone(t testing.TB, environment []string, config string, names ...string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{t: t, names: map[string]string{"DIR": dir, "ADMIN": "off"}, log: filepath.Join(dir, "caddy.log")}
	for i := 0; i < len(names); i += 2 {
		s.names[names[i]] = names[i+1]
	}
	adapted, err := s.adapt(config)
	if err == nil {
		adapted, err = withCertificate(adapted)
	}
	file := filepath.Join(dir, "caddy.json")
	if err == nil {
		err = os.WriteFile(file, adapted, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(caddyBinary(t), "run", "--config", file)
	cmd.Env = append(append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOME="+dir), environment...)
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting Caddy: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone already, which is what is wanted
		_ = cmd.Wait()         // a killed process always reports an error
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", s.readLog())
		}
	})
	eventually(t, "Caddy to answer", func() bool {
		log, _ := os.ReadFile(s.log) // it is not there at first
		return bytes.Contains(log, []byte("serving initial configuration"))
	})
	return s
}
