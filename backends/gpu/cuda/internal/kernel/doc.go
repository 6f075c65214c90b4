// Package kernel turns CUDA C++ into code for the device at hand, by NVRTC, and
// keeps it on disk, so that a kernel is compiled once for a machine. Where there
// is no NVRTC, PTX that comes with the program takes its place.
package kernel
