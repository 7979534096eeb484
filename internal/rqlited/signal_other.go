//go:build !linux

package rqlited

import (
	"errors"
	"os"
	"syscall"
)

var terminate os.Signal = syscall.SIGTERM

func dieWithParent() *syscall.SysProcAttr { return nil }

func freeze(*os.Process, bool) error {
	return errors.New("freezing a process is only tested on Linux")
}
