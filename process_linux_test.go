package caddysession_test

import "syscall"

// dieWithParent leaves no Caddy behind when the test binary itself is killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
