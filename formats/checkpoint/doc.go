// Package checkpoint keeps the state of a training run: a directory for each
// checkpoint, written whole or not at all and verified before use.
//
//	run/step-00001200/tensors.safetensors
//	run/step-00001200/manifest.json
//
// The manifest holds step, configuration, data cursor, seed, the size and
// SHA-256 of the tensors' file, and its own SHA-256. Nothing in a checkpoint
// depends on when or where it was written: equal snapshots are equal bytes.
// docs/formats/checkpoint.md has the details. A run's directory has one
// writer; readers may come and go.
//
//	dir, err := checkpoint.Save("run", snapshot)
//	...
//	found, err := checkpoint.LoadLatest("run") // skips broken ones and says why
package checkpoint
