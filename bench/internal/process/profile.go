package process

import (
	"io"
	"net/http"
	"os"
)

// SaveProfile writes what a server answers at a URL of its net/http/pprof to a file.
func SaveProfile(url, file string) error {
	res, err := http.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
