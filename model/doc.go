// Package model assembles the language model: one configuration, one function
// from tokens to logits, and the graphs traced from it for training,
// evaluation, prefill, decoding and packing.
package model
