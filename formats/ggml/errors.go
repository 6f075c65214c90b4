package ggml

import "github.com/cockroachdb/errors"

// The errors of this package; test for them with errors.Is.
var (
	// ErrFormat reports bytes that are no well-formed blocks, or a shape that
	// no tensor of the type has.
	ErrFormat = errors.New("ggml: malformed tensor")
	// ErrLossy reports a conversion that would change a weight.
	ErrLossy = errors.New("ggml: conversion would lose information")
	// ErrType reports a tensor of another type or shape than asked for.
	ErrType = errors.New("ggml: wrong type")
)

// malformed returns an ErrFormat that says what is wrong.
func malformed(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...), "the file is damaged, or its metadata is of another model")
}
