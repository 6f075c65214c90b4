package rows

import (
	"fmt"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
)

// Each op of streams has two kernels: of 1, 2, 4 or 8 streams in rows of a multiple
// of 4, and of any.
func addStreams(t engine.Table) {
	add(t, "streamread", streamRead())
	add(t, "streamread", anyStreamRead())
	add(t, "streamread.vjp", streamReadVJP())
	add(t, "streamread.vjp", anyStreamReadVJP())
	add(t, "streamwrite", streamWrite())
	add(t, "streamwrite", anyStreamWrite())
	add(t, "streamwrite.vjp", streamWriteVJP())
	add(t, "streamwrite.vjp", anyStreamWriteVJP())
}

// dims are the rows, streams and columns of operand 0.
func dims(n *graph.Node) (N, S, C int) { return n.In[0].Dim(0), n.In[0].Dim(1), n.In[0].Dim(2) }

func regular(n *graph.Node) bool {
	_, S, C := dims(n)
	return C%4 == 0 && (S == 1 || S == 2 || S == 4 || S == 8)
}

// stepOf is how many coefficients lie between a row's and the next row's: 0 if all
// rows have the same, which are of so many dimensions.
func stepOf(v graph.Value, rank int) int {
	if s := v.Shape(); len(s) > rank {
		return s[len(s)-rank:].Numel()
	}
	return 0
}

// columns is the grid and block of a kernel whose threads each have some columns of
// a row. Many rows have a warp each, so that it loads their coefficients once; few
// are spread over more threads. Results are the same either way.
func columns(rows, chunks int) (grid, block driver.Dim) {
	x := 32
	if rows < 2048 {
		x = min(256, roundUp(chunks, 32))
	}
	for x > 1 && x/2 >= chunks {
		x /= 2
	}
	block = driver.Dim{X: x, Y: 256 / x}
	return blocks(rows, block.Y), block
}

// streamKernel is the kernel of a number of streams.
func streamKernel(name string, S int) string { return fmt.Sprintf("%s_%d_4", name, S) }

func streamRead() engine.Kernel {
	return engine.Kernel{
		Supports: regular,
		Narrow:   narrows([]bool{true, false}, []bool{true}),
		Bind: bind(streams, func(l *launcher) {
			N, S, C := dims(l.Node)
			grid, block := columns(N, C/4)
			l.launch(streamKernel("streamread", S), grid, block,
				l.In[0], l.In[1], l.Out[0], uint64(N), C, stepOf(l.Node.In[1], 1), l.Narrow())
		}),
	}
}

func streamWrite() engine.Kernel {
	return engine.Kernel{
		Supports: regular,
		Narrow:   narrows([]bool{true, true, false, false}, []bool{true}),
		Bind: bind(streams, func(l *launcher) {
			N, S, C := dims(l.Node)
			grid, block := columns(N, C/4)
			l.launch(streamKernel("streamwrite", S), grid, block, l.In[0], l.In[1], l.In[2], l.In[3], l.Out[0],
				uint64(N), C, stepOf(l.Node.In[2], 2), stepOf(l.Node.In[3], 1), l.Narrow())
		}),
	}
}

// streamWarps is how many warps a block of the pullbacks has, each with a row.
const streamWarps = 4

// streamParts cuts the rows of a pullback.
func streamParts(n *graph.Node) (span, parts int) { return partition(n.In[0].Dim(0), streamWarps) }

// shareBytes is the working memory of the gradient of v, of rank dimensions if all
// rows share its elements: a set of them for each part.
func shareBytes(n *graph.Node, v graph.Value, rank int) int {
	if stepOf(v, rank) > 0 {
		return 0
	}
	_, parts := streamParts(n)
	return roundUp(4*parts*v.Shape().Numel(), 256)
}

// share says where a pullback leaves the gradient of v: in out, if each row has
// coefficients of its own, and else in memory cut off room, of which finish makes
// out.
func (l *launcher) share(v graph.Value, rank int, out driver.Pointer, room *driver.Pointer) (to driver.Pointer, finish func()) {
	_, parts := streamParts(l.Node)
	if stepOf(v, rank) > 0 || parts == 1 {
		return out, func() {}
	}
	to = *room
	*room += driver.Pointer(shareBytes(l.Node, v, rank))
	return to, func() { l.fold("stream_fold", to, out, parts, v.Shape().Numel()) }
}

func streamReadVJP() engine.Kernel {
	return engine.Kernel{
		Supports: regular,
		Narrow:   narrows([]bool{true, false, true}, []bool{true, false}),
		Scratch:  func(n *graph.Node) int { return shareBytes(n, n.In[1], 1) },
		Bind: bind(streams, func(l *launcher) {
			N, S, C := dims(l.Node)
			span, parts := streamParts(l.Node)
			room := l.Scratch
			dpre, finish := l.share(l.Node.In[1], 1, l.Out[1], &room)
			l.launch(streamKernel("streamread_vjp", S), driver.Dim{X: parts}, driver.Dim{X: 32, Y: streamWarps},
				l.In[0], l.In[1], l.In[2], l.Out[0], dpre, uint64(N), C, span, stepOf(l.Node.In[1], 1), l.Narrow())
			finish()
		}),
	}
}

func streamWriteVJP() engine.Kernel {
	return engine.Kernel{
		Supports: regular,
		Narrow:   narrows([]bool{true, true, false, false, true}, []bool{true, true, false, false}),
		Scratch:  func(n *graph.Node) int { return shareBytes(n, n.In[2], 2) + shareBytes(n, n.In[3], 1) },
		Bind: bind(streams, func(l *launcher) {
			N, S, C := dims(l.Node)
			span, parts := streamParts(l.Node)
			h, post, room := l.Node.In[2], l.Node.In[3], l.Scratch
			dh, finishH := l.share(h, 2, l.Out[2], &room)
			dpost, finishPost := l.share(post, 1, l.Out[3], &room)
			l.launch(streamKernel("streamwrite_vjp", S), driver.Dim{X: parts}, driver.Dim{X: 32, Y: streamWarps},
				l.In[0], l.In[1], l.In[2], l.In[3], l.In[4], l.Out[0], l.Out[1], dh, dpost,
				uint64(N), C, span, stepOf(h, 2), stepOf(post, 1), l.Narrow())
			finishH()
			finishPost()
		}),
	}
}
