package rows

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addIndexing(t engine.Table) {
	add(t, "gather", gather())
	add(t, "scatteradd", scatterAdd())
	add(t, "updateat", updateAt())
}

// Chunks of a lane in the tiles that warps take of rows; index.cu has the same.
const (
	wide   = 8
	narrow = 2
)

// tilesOf cuts rows of a width into tiles.
func tilesOf(width, chunks int) (suffix string, tiles int) {
	v, suffix := vector(width)
	return suffix, ceil(width/v, 32*chunks)
}

func gather() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{false, false}, []bool{true}),
		Bind: bind(indexing, func(l *launcher) {
			table, out := l.Node.In[0].Type(), l.Node.Out[0]
			count := l.Node.In[1].Shape().Numel()
			width := out.Shape.Numel() / count
			kind := map[tensor.DType]int{tensor.F32: 0, tensor.BF16: 1, tensor.F16: 2}[table.DType]
			suffix, tiles := tilesOf(width, wide)
			failure, node := l.Failure()
			l.launch("gather"+suffix, blocks(count*tiles, 8), driver.Dim{X: 32, Y: 8},
				l.In[0], l.In[1], l.Out[0], uint64(count), table.Shape[0], width, uint32(tiles), kind, flags(out), failure, node)
		}),
	}
}

// scatterRoom lays out the working memory of a scatteradd: the head of a list for
// each row of the result, what follows each row of the operand, and the number of
// the lists that are longer than a warp, with their rows.
type scatterRoom struct{ heads, next, longs, end, most int }

func scatterRoomOf(n *graph.Node) scatterRoom {
	limit, count := n.Out[0].Shape[0], n.In[1].Shape().Numel()
	r := scatterRoom{most: count / 33}
	r.next = roundUp(4*limit, 256)
	r.longs = r.next + roundUp(4*count, 256)
	r.end = r.longs + 4*(1+r.most)
	return r
}

// longBlocks is how many blocks share the long lists: as many as are on a device of
// 132 multiprocessors at a time, though bits do not depend on it.
const longBlocks = 2 * 132

func scatterAdd() engine.Kernel {
	return engine.Kernel{
		Supports: func(n *graph.Node) bool { return n.In[1].Shape().Numel() < 1<<31 && n.Out[0].Shape[0] < 1<<31 },
		Narrow:   narrows([]bool{true, false}, []bool{false}),
		Scratch:  func(n *graph.Node) int { return scatterRoomOf(n).end },
		Bind: bind(indexing, func(l *launcher) {
			limit, count := l.Node.Out[0].Shape[0], l.Node.In[1].Shape().Numel()
			width := l.Node.In[0].Shape().Numel() / count
			suffix, tiles := tilesOf(width, wide)
			room := scatterRoomOf(l.Node)
			at := func(offset int) driver.Pointer { return l.Scratch + driver.Pointer(offset) }
			heads, next, longs := at(room.heads), at(room.next), at(room.longs)
			x, nx := l.In[0], flags(l.Node.In[0].Type())
			failure, node := l.Failure()

			l.Fill32(heads, 0xffffffff, limit)
			l.Fill32(longs, 0, 1)
			l.launch("scatter_link", blocks(count, 256), driver.Dim{X: 256}, l.In[1], heads, next, uint64(count), limit, failure, node)
			l.launch("scatter_short"+suffix, blocks(limit*tiles, 8), driver.Dim{X: 32, Y: 8},
				x, heads, next, longs, l.Out[0], uint64(limit), width, uint32(tiles), nx)
			if room.most > 0 {
				_, tiles := tilesOf(width, narrow)
				l.launch("scatter_long"+suffix, driver.Dim{X: min(room.most*tiles, longBlocks)}, driver.Dim{X: 32, Y: 16},
					x, l.In[1], longs, l.Out[0], uint64(count), width, uint32(tiles), nx)
			}
		}),
	}
}

func updateAt() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{false, true, false}, []bool{false}),
		Bind: bind(indexing, func(l *launcher) {
			dst, src := l.Node.Out[0], l.Node.In[1].Type()
			axis := l.Node.Attr.(graph.AxisAttr).Axis
			outer, n, inner := dst.Shape[:axis].Numel(), dst.Shape[axis], dst.Shape[axis+1:].Numel()
			count := src.Shape[axis]
			_, suffix := vector(inner)
			tiles := ceil(count*inner, 1024)
			half := uint32(0)
			if dst.DType == tensor.F16 {
				half = 1
			}
			failure, node := l.Failure()
			l.Copy(l.Out[0], l.In[0], dst.Bytes())
			l.launch("updateat"+suffix, blocks(outer*tiles, 1), driver.Dim{X: 256}, l.Out[0], l.In[1], l.In[2],
				uint64(outer), uint64(outer/dst.Shape[0]), n, count, uint64(inner), uint32(tiles), half, flags(src), failure, node)
		}),
	}
}
