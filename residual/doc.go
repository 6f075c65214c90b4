// Package residual has the built-in ways of joining a sub-layer to the
// residual stream. Importing it registers them. docs/residuals.md has their
// formulas, options and numbers of parameters on one page.
package residual
