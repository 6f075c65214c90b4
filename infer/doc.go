// Package infer runs a model: sessions with a KV cache, chunked prefill and
// decoding, sampling, and text streamed token by token.
package infer
