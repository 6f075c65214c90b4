//go:build !unix

package sweep

func isReadOnly(error) bool { return false }

func isFull(error) bool { return false }
