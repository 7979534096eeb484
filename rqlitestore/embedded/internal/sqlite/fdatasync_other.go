//go:build !unix

package sqlite

func preferFdatasync() {}
