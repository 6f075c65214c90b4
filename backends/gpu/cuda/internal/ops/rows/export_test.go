package rows

// LimitBlocks sets the size of the largest grid, and returns what it was.
func LimitBlocks(n int) int {
	was := maxBlocks
	maxBlocks = n
	return was
}
