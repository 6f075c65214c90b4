// Package framework defines what a plugin of tern is: a Backend runs graphs, a
// Quantizer turns weights into codes and scales, a Residual joins sub-layers
// to the residual stream. Each kind has a registry in which implementations
// are found by name, and a conformance suite (backendtest, quanttest,
// residualtest) which is the definition of a correct one.
package framework
