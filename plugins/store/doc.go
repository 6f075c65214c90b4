// Package store finds plugin binaries and pins them. A plugin NAME is the file
// tern-plugin-NAME in a directory of TERN_PLUGIN_PATH or in the per-user
// directory, or a file named on the command line; never one of the working
// directory or of PATH. A lock file in the per-user directory says which SHA-256
// each plugin has: another binary is not run before somebody accepts it.
package store
