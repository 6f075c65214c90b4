// Package conformance tests a plugin over the wire: what a plugin must be
// whatever its kind, then the suite of its kind (quanttest, residualtest or
// backendtest) on the running process.
package conformance
