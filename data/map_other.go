//go:build !unix

package data

import "os"

// mapFile reads the file into memory: here a mapped file could not be replaced
// while it is open.
func mapFile(path string) (data []byte, mapped bool, unmap func() error, err error) {
	data, err = os.ReadFile(path)
	return data, false, func() error { return nil }, err
}
