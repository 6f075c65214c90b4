// Package engine runs plans on a CUDA device: a store of named tensors in the
// device's memory, and graphs whose kernels are bound once to that memory,
// captured as a CUDA graph and replayed by one call.
//
// It knows no kernel. A backend gives it a Table of them:
//
//	table := engine.Table{}
//	rows.Add(table)
//	backend, err := engine.New(engine.Config{Device: device, Table: table})
package engine
