// Package cuda is the backend for NVIDIA devices of compute capability 8.0 and
// later. Programs do not import it: it calls foreign libraries, and lives in the
// process of the plugin tern-plugin-cuda, which package gpu starts.
package cuda
