//go:build !unix

package mmap

import "os"

// Here a mapped file could not be replaced while it is open: none is mapped.
func mapFile(*os.File, int) ([]byte, error) { return nil, ErrUnsupported }

func unmap([]byte) error { return nil }

func release([]byte) {}

func isFault(error) bool { return false }
