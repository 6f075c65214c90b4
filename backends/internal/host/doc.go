// Package host runs plans in this process: a store of named tensors, kernels
// bound once to their memory as lists of loops, and a pool of workers that
// splits each loop.
//
// A CPU backend is a kernel table:
//
//	func Open(o framework.Options) (framework.Backend, error) {
//		return host.New("mine", host.Table{...}, host.Config{})
//	}
package host
