// Package graph is the intermediate representation of tern: a list of pure
// operations over statically shaped tensors, plus a list of state updates.
//
// A graph is built by tracing ordinary Go code against a Builder (see Trace);
// node order is a valid execution order by construction. An operation is
// either a primitive, which has a gradient rule, or a composite, which has an
// expansion into simpler operations; the gradient of a composite is derived
// from its expansion. A graph has one text form (WriteTo and Read), which is
// the debug dump, the golden file of tests and the wire format of plugins.
package graph
