//go:build !linux

package caddysession_test

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
