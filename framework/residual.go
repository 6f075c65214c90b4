package framework

import "github.com/ternlm/tern/framework/graph"

// Residual joins sub-layers to the residual stream. The stream it carries has
// whatever shape Expand gives it; nobody else looks inside. A Residual
// declares its parameters on the builder, under the scope of the sub-layer.
//
// Its coefficients may follow the token, but what becomes of a token depends on
// no other: the stream has a row for each, and a model decodes them one by one.
// Write may compute again what Read computed of the same stream: equal nodes
// are merged, and their gradient is computed once.
type Residual interface {
	// Spec names the residual and its options, such as "mhclite:streams=2".
	Spec() string
	// Expand makes the stream from the embedding x f32 [N,C].
	Expand(b *graph.Builder, x graph.Value) graph.Value
	// Read gives the input [N,C] of sub-layer l (counted from 0 through
	// attention and feed-forward of each block).
	Read(b *graph.Builder, l int, s graph.Value) graph.Value
	// Write adds the output y [N,C] of sub-layer l to the stream.
	Write(b *graph.Builder, l int, s, y graph.Value) graph.Value
	// Collapse gives the output [N,C] of the whole stack.
	Collapse(b *graph.Builder, s graph.Value) graph.Value
}

// Mixer is an optional interface of a Residual that carries several streams.
type Mixer interface {
	// Mixing gives the matrix by which sub-layer l mixes the streams s, for
	// diagnostics: f32 [S,S], or [N,S,S] where it follows the token.
	Mixing(b *graph.Builder, l int, s graph.Value) graph.Value
	// Width returns the number S of streams. The stream is f32 [N,S,C].
	Width() int
	// DoublyStochastic reports whether Mixing is claimed to be so.
	DoublyStochastic() bool
}
