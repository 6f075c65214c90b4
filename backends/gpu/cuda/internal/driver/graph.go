package driver

import (
	"unsafe"

	"github.com/cockroachdb/errors"
)

// Graph is work that was captured and can be run again by one call.
type Graph struct {
	c      *Context
	handle uintptr // CUgraphExec
	nodes  int
}

// Capture calls fn, and makes a graph of what it gives to the stream instead of
// running it. Within fn nothing may be allocated, freed or waited for, and only
// pinned memory copied: CUDA answers with an error, and Capture with the first
// that fn saw.
func (s *Stream) Capture(fn func() error) (*Graph, error) {
	var g *Graph
	// Begin, what is captured and end share a thread, as CUDA wants.
	err := s.c.Do(func() error {
		// Libraries load a kernel when they first launch it, which allocates; other
		// threads allocate too. The relaxed mode lets both.
		const relaxed = 2 // CU_STREAM_CAPTURE_MODE_RELAXED
		if err := s.on("cuStreamBeginCapture", s.c.d.fn.StreamBeginCapture, s.handle, relaxed); err != nil {
			return err
		}
		inner := fn()
		var raw uintptr
		err := s.ask("cuStreamEndCapture", s.c.d.fn.StreamEndCapture, s.handle, uintptr(unsafe.Pointer(&raw)))
		if inner != nil {
			return errors.CombineErrors(errors.Wrap(inner, "capture"), s.destroyGraph(raw))
		}
		if err != nil {
			return err
		}
		g, err = s.instantiate(raw)
		return errors.CombineErrors(err, s.destroyGraph(raw))
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (s *Stream) instantiate(raw uintptr) (*Graph, error) {
	g := &Graph{c: s.c}
	var n uint64
	if err := s.ask("cuGraphGetNodes", s.c.d.fn.GraphGetNodes, raw, 0, uintptr(unsafe.Pointer(&n))); err != nil {
		return nil, err
	}
	g.nodes = int(n)
	if err := s.ask("cuGraphInstantiate", s.c.d.fn.GraphInstantiate, uintptr(unsafe.Pointer(&g.handle)), raw, 0); err != nil {
		return nil, err
	}
	return g, nil
}

func (s *Stream) destroyGraph(raw uintptr) error {
	if raw == 0 {
		return nil
	}
	return s.on("cuGraphDestroy", s.c.d.fn.GraphDestroy, raw)
}

// Nodes is how many operations were captured.
func (g *Graph) Nodes() int { return g.nodes }

// Launch runs the graph on a stream. It allocates nothing. A graph does not run
// twice at a time: a second launch waits for the first.
func (g *Graph) Launch(s *Stream) error {
	c := s.c
	if err := c.enter(); err != nil {
		return err
	}
	r := fast(c.d.fn.GraphLaunch, g.handle, s.handle)
	c.leave()
	if int32(r) == 0 {
		return nil
	}
	return c.d.fail("cuGraphLaunch", int(int32(r)))
}

// Destroy gives the graph back.
func (g *Graph) Destroy() error {
	if err := g.c.enter(); err != nil {
		return err
	}
	defer g.c.leave()
	return g.c.d.check("cuGraphExecDestroy", call(g.c.d.fn.GraphExecDestroy, g.handle))
}
