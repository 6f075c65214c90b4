// Package modelfile is a model as a file: it collects the weights that a model
// computes with, writes them as GGUF and .mhc, and reads them back to the same
// bits.
package modelfile
