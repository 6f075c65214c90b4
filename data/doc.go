// Package data turns text into token files and token files into batches.
//
// The way is text, Prepare, a token file, OpenTokens, Batches:
//
//	m, err := data.Prepare(ctx, data.PrepareOptions{
//		Inputs: []string{"stories.txt"}, Out: "stories", Tokenizer: "gpt2:4096",
//	})
//	tokens, err := data.OpenTokens("stories.bin")
//	batches, err := tokens.Batches(data.BatchOptions{Batch: 8, Window: 256, Seed: 1, Shuffle: true})
//	in, want := make([]int32, 8*256), make([]int32, 8*256)
//	err = batches.Next(in, want)
//
// A batch is a pure function of (file, options, cursor): a run that stops and
// comes back at its cursor sees what it would have seen.
package data
