// Package residual has the built-in ways of joining a sub-layer to the
// residual stream. Importing it registers them.
package residual
