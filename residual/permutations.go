package residual

// permutations lists the permutations of 0..n-1 in lexicographic order, the
// identity first.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for first := range n {
		for _, rest := range permutations(n - 1) {
			p := []int{first}
			for _, r := range rest {
				if r >= first {
					r++
				}
				p = append(p, r)
			}
			all = append(all, p)
		}
	}
	return all
}

// indicator is a row of n*n zeros and ones for each permutation: element
// i*n+p[i] is one.
func indicator(perms [][]int) []float64 {
	n := len(perms[0])
	v := make([]float64, len(perms)*n*n)
	for k, p := range perms {
		for i, j := range p {
			v[k*n*n+i*n+j] = 1
		}
	}
	return v
}

// identityLogits are logits of k permutations, the identity first, whose
// softmax is nearly all identity: 0, and -8 for the rest.
func identityLogits(k int) []float64 { return home(k, 0, 0, -8) }
