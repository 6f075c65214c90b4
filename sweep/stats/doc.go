// Package stats has the statistics of paired comparisons with few pairs:
// summaries, Student's t, the exact sign-flip test and Holm's correction.
package stats
