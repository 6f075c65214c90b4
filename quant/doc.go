// Package quant has the built-in quantizers: none, which leaves weights as
// they are; ternary, the absmean quantizer of BitNet b1.58; binary, signs by
// the absmean; int4 and int8, 15 and 255 levels by the absmax. All but none take the
// options group (how many weights share a scale: a number, row or tensor; 128)
// and scale (f16 or f32). Importing the package registers them.
package quant
