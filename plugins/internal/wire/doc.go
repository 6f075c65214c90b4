// Package wire is the protocol between host and plugin: gRPC services and
// messages, generated from the .proto files beside it.
package wire

//go:generate sh generate.sh
