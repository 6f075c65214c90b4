package stats

import (
	"math"
	"math/rand/v2"
)

// MaxExact is the most pairs of which all sign flips are counted: 2^20.
const MaxExact = 20

// draws is how many sign flips are drawn where there are too many to count.
const draws = 100_000

// SignFlip is the outcome of the sign-flip test (Fisher 1935, section 21): if a
// treatment does nothing, each difference was as likely to have the other
// sign. It assumes nothing of the differences but that.
type SignFlip struct {
	P float64 `json:"p"` // two-sided: the share of flips with a sum as far from zero as the one seen
	// Error is the standard error of P where it was estimated from random flips;
	// 0 where all were counted.
	Error float64 `json:"standard_error,omitempty"`
	// Least is the smallest P that this number of pairs can have.
	Least float64 `json:"least"`
}

// SignFlipTest tests that the differences d are symmetric around zero. All
// 2^n flips of up to MaxExact differences are counted; of more, 100,000 are
// drawn with a fixed seed, and the one seen is counted with them (Phipson and
// Smyth 2010), so that P is never 0. It returns ErrEmpty or ErrNonFinite.
func SignFlipTest(d []float64) (SignFlip, error) {
	if err := check(d); err != nil {
		return SignFlip{}, err
	}
	var sum, size float64
	for _, v := range d {
		sum += v
		size += math.Abs(v)
	}
	// Sums that are equal in exact arithmetic differ by rounding: they are ties.
	least := math.Abs(sum) - size*1e-12
	if len(d) > MaxExact {
		return drawFlips(d, least), nil
	}
	// A flip and its mirror image are equally far from zero: the first sign stays.
	n := countFlips(d[0], d[1:], least)
	return SignFlip{P: float64(n) / float64(int(1)<<(len(d)-1)), Least: Least(len(d))}, nil
}

// Least is the smallest P of the sign-flip test of n pairs: that of
// differences which all have one sign.
func Least(n int) float64 {
	if n > MaxExact {
		return 1.0 / (draws + 1)
	}
	return math.Ldexp(2, -max(n, 1))
}

// PairsFor returns how few pairs can bring the P of the exact sign-flip test
// to alpha when the smallest of m is multiplied by m, as Holm's correction
// does.
func PairsFor(alpha float64, m int) int {
	for n := 1; ; n++ {
		if math.Ldexp(2, -n)*float64(max(m, 1)) <= alpha {
			return n
		}
	}
}

func countFlips(sum float64, rest []float64, least float64) int {
	if len(rest) == 0 {
		if math.Abs(sum) >= least {
			return 1
		}
		return 0
	}
	return countFlips(sum+rest[0], rest[1:], least) + countFlips(sum-rest[0], rest[1:], least)
}

func drawFlips(d []float64, least float64) SignFlip {
	r := rand.New(rand.NewPCG(1, 2))
	n := 1 // the flip seen
	for range draws {
		var sum float64
		var bits uint64
		for i, v := range d {
			if i%64 == 0 {
				bits = r.Uint64()
			}
			sum += math.Float64frombits(math.Float64bits(v) ^ bits&1<<63)
			bits >>= 1
		}
		if math.Abs(sum) >= least {
			n++
		}
	}
	p := float64(n) / (draws + 1)
	return SignFlip{P: p, Error: math.Sqrt(p * (1 - p) / draws), Least: Least(len(d))}
}
