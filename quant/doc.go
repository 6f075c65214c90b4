// Package quant has the built-in quantizers: none, which leaves weights as
// they are, and ternary, the absmean quantizer of BitNet b1.58. Importing it
// registers them.
package quant
