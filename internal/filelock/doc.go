// Package filelock makes one process at a time the owner of something on disk,
// by a lock on a file that the system lets go when its process ends, however it
// ends.
package filelock
