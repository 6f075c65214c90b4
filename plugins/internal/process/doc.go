// Package process starts a plugin's program, connects to it and ends it,
// whatever it does.
//
// The program is copied into a sealed memory file and hashed there, and that
// image is what runs (Linux; elsewhere it is hashed, then run from its file).
// It gets an environment of a few listed variables, no standard input, a
// process group of its own, and a private directory for its socket. It is
// killed with its group when the host asks, and by the kernel when the host
// dies (Linux).
package process
