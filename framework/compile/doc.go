// Package compile turns a traced graph into a plan that a backend can run:
// Lower expands what the backend has no kernel for, drops dead nodes, merges
// equal ones and schedules updates; Place gives every intermediate value a
// place in one arena. Both are pure functions.
package compile
