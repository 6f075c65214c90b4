// Package layers has the parts that a language model is made of, as functions
// from builder values to builder values: Linear, Embedding, Norm, Attention
// and FeedForward. A layer declares its parameters under the builder's scope.
package layers
