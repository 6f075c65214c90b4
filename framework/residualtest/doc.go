// Package residualtest is the conformance suite of residuals: what passes it
// is a correct framework.Residual, and the claims of a framework.Mixer hold.
package residualtest
