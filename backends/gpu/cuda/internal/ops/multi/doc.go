// Package multi makes one node of many small equal steps of an optimizer, as NVIDIA's
// Apex does with its multi-tensor kernels. Gains of norms and coefficients of residual
// streams are some of the parameters of a model and most of their number: of the 147
// AdamW steps of nano-125m, 145 have 768 elements or fewer, and each is two kernels
// that are over in less time than their launches take.
//
// Concatenating them instead would take no kernel of its own, but four concats of 145
// parts, and 435 slices that are copied to their states one by one.
//
// Join is a pass over a lowered graph. It costs no memory and moves nothing that the
// steps alone do not: the kernel reads from a table where the parameters are, and
// leaves the new ones there. Results have the bits of the single steps.
package multi
