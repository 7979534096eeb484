// Package realfile finds the one name of a file that several may lead to.
package realfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// mostLinks is how many links may follow one another, as on Linux.
const mostLinks = 40

// Of returns the name of a file without the symbolic links that lead to it. The
// file need not exist yet, its directory has to.
func Of(file string) (string, error) {
	name := file
	for range mostLinks {
		if real, err := filepath.EvalSymlinks(name); err == nil {
			return real, nil
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(name))
		if err != nil {
			return "", err
		}
		name = filepath.Join(dir, filepath.Base(name))
		target, err := os.Readlink(name)
		switch {
		case err != nil: // no link: this is where the file will be
			return name, nil
		case filepath.IsAbs(target):
			name = target
		default:
			name = filepath.Join(dir, target)
		}
	}
	return "", fmt.Errorf("%s: too many symbolic links", file)
}
