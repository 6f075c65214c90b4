// Package array does the work of a plan in the tasks of an array job, as batch
// systems have them: a task is known by its index, runs its share of the trials
// one after another, and may be stopped, lost and started again.
package array
