// Package compile turns a traced graph into a plan that a backend can run:
// Lower expands what the backend has no kernel for, drops dead nodes, merges
// equal ones, joins composites with their pullbacks, schedules updates and
// computes cheap values again instead of keeping them; Place gives every
// intermediate value a place in one arena. Both are pure functions.
package compile
