// Package local runs the trials of a sweep on this machine: several at once, each
// in a process of its own, as many as its processors and its memory carry.
//
// Trials come before threads: with as many trials as processors each has one
// thread, and none waits for another at the end of an op. What a trial computes
// does not depend on its threads.
package local
