// Package realfile finds the one name of a file that several may lead to.
package realfile

import "path/filepath"

// Of returns the name of a file without the symbolic links that lead to it. The
// file need not exist yet, its directory has to.
func Of(file string) (string, error) {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		return real, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(file)), nil
}
