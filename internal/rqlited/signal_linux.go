package rqlited

import (
	"os"
	"syscall"
)

const terminate = syscall.SIGTERM

// dieWithParent keeps no node behind when the test binary itself is killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

func freeze(p *os.Process, frozen bool) error {
	if frozen {
		return p.Signal(syscall.SIGSTOP)
	}
	return p.Signal(syscall.SIGCONT)
}
