package simd

const (
	fewQueries = 4  // positions up to which keys and values are read as they are stored
	fewColumns = 32 // columns whose rows are read for one head after another, while their pages are near
)

// few says that the plan reads keys and values as they are: nothing is packed, because nothing would be used again.
// The arithmetic of a query row is that of the tiles.
func (a *Attention) few() bool { return a.T <= fewQueries && a.D%8 == 0 && a.D > 0 }

// fewHeads is the number of key heads that go through the columns together.
func (a *Attention) fewHeads() int { return max(1, ceilDiv(a.KV, a.workers())) }

// fewScores is the distance of two rows of scores: whole blocks of columns.
func (a *Attention) fewScores() int { return roundUp(a.S, rowLanes) }

// fewRows is the number of query rows of a key head.
func (a *Attention) fewRows() int { return a.T * a.group() }

func (a *Attention) fewSlot() int {
	return roundUp(a.fewHeads()*a.fewRows()*(a.fewScores()+1), panelCols)
}

// forwardFew does key heads lo to hi-1, counted over the batch.
func (r *attnRun) forwardFew(lo, hi int) {
	slot, area := r.slots.take()
	defer r.slots.give(slot)
	for lo < hi {
		b, kv := lo/r.a.KV, lo%r.a.KV
		n := min(r.a.fewHeads(), r.a.KV-kv, hi-lo)
		r.headsFew(b, kv, n, area)
		lo += n
	}
}

// headsFew does n key heads of one batch, from head kv. The columns are gone through a few at a time: all heads of a few
// columns lie together.
func (r *attnRun) headsFew(b, kv, n int, area []float32) {
	rows, ld := r.a.fewRows(), r.a.fewScores()
	columns := 0
	if r.a.T > 0 {
		columns = r.seen(b, r.a.T-1)
	}
	for j := 0; j < columns; j += fewColumns {
		for i := range n * rows {
			r.scoreFew(area[i*ld+j:], b, kv+i/rows, i%rows, j, columns)
		}
	}
	inv := area[n*rows*ld:]
	for i := range n * rows {
		x, seen := area[i*ld:(i+1)*ld], r.seen(b, i%rows/r.group)
		sum := r.exp(x, seen, roundUp(seen, 8))
		if inv[i] = 0; seen > 0 {
			inv[i] = 1 / sum
		}
	}
	for j := 0; j < columns || j == 0; j += fewColumns {
		for i := range n * rows {
			head, row := kv+i/rows, i%rows
			count := min(fewColumns, r.seen(b, row/r.group)-j)
			if count > 0 || j == 0 {
				r.v.sum(r.out[r.rowAt(b, head, row):], area[i*ld+j:], r.valueAt(b, head, j), r.a.KV*r.a.D, max(count, 0), r.a.D, r.ahead(head), j == 0)
			}
		}
	}
	for i := range n * rows {
		out := r.out[r.rowAt(b, kv+i/rows, i%rows):]
		attnScale(out, out, r.a.D, inv[i])
	}
}

// scoreFew multiplies a query row by the keys of some columns from j.
func (r *attnRun) scoreFew(scores []float32, b, kv, row, j, columns int) {
	q := r.q[r.rowAt(b, kv, row):]
	blocks := ceilDiv(min(fewColumns, columns-j), rowLanes)
	if last := r.a.S - j; blocks*rowLanes > last { // the keys end within a block
		blocks = last / rowLanes
		at := j + blocks*rowLanes
		r.k.tail(scores[blocks*rowLanes:], q, r.key(b, kv, at), r.a.KV*r.a.D, r.a.D, min(r.a.S, columns)-at)
	}
	r.k.dots(scores, q, r.key(b, kv, j), r.a.KV*r.a.D, r.a.D, blocks, r.ahead(kv))
}

// ahead is how far beyond the rows of a key head its share of the next columns' rows lies, which the kernels ask for.
func (r *attnRun) ahead(kv int) int {
	return fewColumns*r.a.KV*r.a.D + kv*(fewColumns-1)*r.a.D
}

// rowAt is the offset in q and out of row row of a key head: position row/group, query head kv*group + row%group.
func (r *attnRun) rowAt(b, kv, row int) int {
	return r.at(attnTile{b: b, kv: kv}, row)
}

// valueAt is key, for a column that may not exist.
func (r *attnRun) valueAt(b, kv, j int) int { return min(r.key(b, kv, j), r.v.Len()-r.a.D) }
