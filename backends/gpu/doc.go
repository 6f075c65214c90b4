// Package gpu registers the backend "gpu": a CUDA device, in a process of its own.
//
//	be, err := framework.Backends.Open("gpu:device=1,precision=f32")
//
// The program that imports it stays pure Go. What calls NVIDIA's libraries is the
// plugin tern-plugin-cuda, which open finds, starts, and ends with the backend:
// a fault of a device, or of a library, ends that process and is an error here.
//
// The plugin is looked for, in this order,
//
//   - where the user says: UseStore's flags, then TERN_PLUGIN_PATH, pinned as every
//     plugin is (package plugins/store);
//   - beside the program that runs: in its directory, and in libexec/tern and
//     lib/tern next to that directory. Whoever may change such a file may change the
//     program itself, so it needs no pin; but it must be of the same build;
//   - in the user's directory of plugins, pinned.
//
// Never in the working directory, never in PATH.
package gpu
