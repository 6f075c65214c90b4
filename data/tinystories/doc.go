// Package tinystories holds a sample of the TinyStories data set, so that the
// first training run needs no download.
//
// The stories are by Ronen Eldan and Yuanzhi Li (arXiv 2305.07759) and licensed
// under CDLA-Sharing-1.0; see LICENSE and README.md beside this file.
package tinystories
