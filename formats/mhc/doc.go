// Package mhc reads and writes .mhc files: the residual parameters of an
// mHC-lite model, one record a sub-layer.
//
// All values are little endian: u32 magic 0x6D484321, u32 version (1 or 2, the
// same layout), u32 sub-layers, u32 streams (2 or 4), then for each sub-layer
// (attention then FFN, block 0 first) its f32 parameters: 9 with two streams,
// 40 with four. Twenty-four sub-layers of two streams are 880 bytes.
//
//	f, err := mhc.Open("model.mhc")
//	alpha := f.SubLayers[0].Res[0]
package mhc
