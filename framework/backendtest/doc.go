// Package backendtest is the conformance suite of backends: what passes it is
// a correct framework.Backend.
//
// A backend's test is a call of Run; a command calls Check and prints the
// Report. Results are compared with an interpreter that shares no code with
// any backend, and with another backend where one is given.
package backendtest
