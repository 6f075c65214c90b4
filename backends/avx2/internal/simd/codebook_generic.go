//go:build !amd64 || purego

package simd

func (c *Codebook) kernel(a *bookArgs, n int) { c.bookBlocksRef(a, n) }

func magnitudesVec(dst, q []int8) { magnitudesRef(dst, q) }

func shuffleTables(tables []byte, q []int8) { shuffleTablesRef(tables, q) }

func shuffleRows(y []float32, w, tables []byte, act []float32, groups, per, steps int) {
	shuffleRowsRef(y, w, tables, act, groups, per, steps)
}
