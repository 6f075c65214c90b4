package scalar

import (
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// The result is computed in tiles of tileRows by tileCols, which sum
// tileDepth products at a time from a copy of y in float64: 20 KB in all, the
// size of a first-level cache.
const (
	tileRows  = 8
	tileCols  = 64
	tileDepth = 32
)

// fewRows is up to how many rows y is read where it is, not copied.
const fewRows = 2

// product is z = op(x) op(y) for a batch of matrices z [m,n], summed over k.
type product[F Float] struct {
	x, z           []F
	y              tensor.Tensor
	batch, m, n, k int
	transX, transY bool
}

func matMul[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		a, s := c.Node.Attr.(graph.MatMulAttr), c.Out[0].Shape
		r := len(s)
		p := &product[F]{
			x: view[F](c.In[0]), y: c.In[1], z: view[F](c.Out[0]),
			batch: s[:r-2].Numel(), m: s[r-2], n: s[r-1], k: c.In[0].Shape[r-1],
			transX: a.TransX, transY: a.TransY,
		}
		if a.TransX {
			p.k = c.In[0].Shape[r-2]
		}
		return []host.Loop{p.loop()}
	}}
}

// loop has one item a tile.
func (p *product[F]) loop() host.Loop {
	down, across := (p.m+tileRows-1)/tileRows, (p.n+tileCols-1)/tileCols
	cost := min(p.m, tileRows) * min(p.n, tileCols) * p.k
	return loop(p.batch*down*across, cost, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			b, i, j := t/(down*across), t/across%down*tileRows, t%across*tileCols
			if p.m <= fewRows {
				p.columns(b, j)
			} else {
				p.tile(b, i, j)
			}
		}
	})
}

// tile computes the tile of batch b whose first row is i and first column j.
func (p *product[F]) tile(b, i, j int) {
	var sum [tileRows][tileCols]float64
	var part [tileDepth][tileCols]float64
	height, width := min(tileRows, p.m-i), min(tileCols, p.n-j)
	// Element (r,q) of op(x) is x[r*down+q*along].
	x, down, along := p.x[b*p.m*p.k:], p.k, 1
	if p.transX {
		down, along = 1, p.m
	}
	for q := 0; q < p.k; q += tileDepth {
		depth := min(tileDepth, p.k-q)
		p.load(&part, b, q, depth, j, width)
		for r := range height {
			acc, at := sum[r][:width], (i+r)*down+q*along
			d := 0
			for ; d+4 <= depth; d += 4 {
				addFour(acc, &part, d,
					float64(x[at+d*along]), float64(x[at+(d+1)*along]), float64(x[at+(d+2)*along]), float64(x[at+(d+3)*along]))
			}
			for ; d < depth; d++ {
				v, row := float64(x[at+d*along]), part[d][:len(acc)]
				for c := range acc {
					acc[c] += v * row[c]
				}
			}
		}
	}
	for r := range height {
		store(p.z[(b*p.m+i+r)*p.n+j:], sum[r][:width])
	}
}

// addFour adds four rows of part, from d on, times a value each, one after
// another: the order of the sum is that of one row at a time.
func addFour(acc []float64, part *[tileDepth][tileCols]float64, d int, v0, v1, v2, v3 float64) {
	r0, r1, r2, r3 := part[d][:len(acc)], part[d+1][:len(acc)], part[d+2][:len(acc)], part[d+3][:len(acc)]
	for c := range acc {
		acc[c] = acc[c] + v0*r0[c] + v1*r1[c] + v2*r2[c] + v3*r3[c]
	}
}

// columns computes columns j to j+tileCols of all rows, reading y where it is:
// for few rows a copy is not worth its while. The order of the sums is that of
// tile, so a row does not depend on how many there are.
func (p *product[F]) columns(b, j int) {
	var sum [tileCols]float64
	width, y := min(tileCols, p.n-j), p.y
	down, along := p.k, 1
	if p.transX {
		down, along = 1, p.m
	}
	for i := range p.m {
		x, acc := p.x[b*p.m*p.k+i*down:], sum[:width]
		clear(acc)
		for q := 0; q < p.k; q += tileDepth {
			depth := min(tileDepth, p.k-q)
			if p.transY {
				addDots(acc, x[q*along:], along, y, (b*p.n+j)*p.k+q, p.k, depth)
				continue
			}
			var line [tileCols]F
			for d := range depth {
				widen(line[:width], y, (b*p.k+q+d)*p.n+j)
				v := float64(x[(q+d)*along])
				for c, w := range line[:len(acc)] {
					acc[c] += v * float64(w)
				}
			}
		}
		store(p.z[(b*p.m+i)*p.n+j:], acc)
	}
}

// addDots adds to acc[c] the products of depth elements of x, along apart, and
// of the row of y that starts at element at + c*down. Four sums run at once.
func addDots[F Float](acc []float64, x []F, along int, y tensor.Tensor, at, down, depth int) {
	var line [4][tileDepth]F
	for c := 0; c < len(acc); c += 4 {
		var sum [4]float64
		n := copy(sum[:], acc[c:])
		for i := range n {
			widen(line[i][:depth], y, at+(c+i)*down)
		}
		s0, s1, s2, s3 := sum[0], sum[1], sum[2], sum[3]
		for d := range depth {
			v := float64(x[d*along])
			s0 += v * float64(line[0][d&(tileDepth-1)])
			s1 += v * float64(line[1][d&(tileDepth-1)])
			s2 += v * float64(line[2][d&(tileDepth-1)])
			s3 += v * float64(line[3][d&(tileDepth-1)])
		}
		copy(acc[c:], []float64{s0, s1, s2, s3})
	}
}

// load copies rows [q,q+depth) and columns [j,j+width) of op(y) of batch b.
func (p *product[F]) load(part *[tileDepth][tileCols]float64, b, q, depth, j, width int) {
	var line [max(tileDepth, tileCols)]F
	at := b * p.k * p.n
	if !p.transY {
		for d := range depth {
			widen(line[:width], p.y, at+(q+d)*p.n+j)
			for c, v := range line[:width] {
				part[d][c] = float64(v)
			}
		}
		return
	}
	for c := range width {
		widen(line[:depth], p.y, at+(j+c)*p.k+q)
		for d, v := range line[:depth] {
			part[d][c] = float64(v)
		}
	}
}
