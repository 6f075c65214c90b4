// Package local runs the trials of a sweep on this machine: several at once, each
// in a process of its own, as many as its processors and its memory carry.
//
// Two trials of one thread each are faster than one of two threads after the
// other, and what a trial computes does not depend on its threads.
package local
