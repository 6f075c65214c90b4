// Command tern trains, exports and runs ternary language models.
//
//	tern train                # train a small model on stories, in minutes
//	tern generate             # write a story with the model that ships with tern
//
// Data goes to standard output, progress and logs to standard error. The exit
// status is 0 when all is done, 2 for wrong usage or configuration, 75 when a
// run stopped at its time limit after a checkpoint, 130 when it was
// interrupted, and 1 for anything else.
package main
