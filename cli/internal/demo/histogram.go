package demo

import (
	"math/bits"
	"time"
)

const (
	steps   = 16 // per doubling: a percentile is at most a sixteenth too high
	buckets = steps * 61
)

// histogram counts durations in memory that doesn't grow with their number.
// The zero value is empty.
type histogram struct {
	counts [buckets]uint32
	n      int
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.n += other.n
	h.max = max(h.max, other.max)
}

// percentile returns a duration that the share p, from 0 to 1, of all don't
// exceed.
func (h *histogram) percentile(p float64) time.Duration {
	rank := int(p * float64(h.n))
	for i, n := range h.counts {
		if rank -= int(n); rank < 0 {
			return min(ceiling(i), h.max)
		}
	}
	return h.max
}

// bucket numbers n: below steps each value has its own, above it the highest
// five bits count.
func bucket(n uint64) int {
	shift := max(bits.Len64(n)-5, 0)
	return shift*steps + int(n>>shift)
}

// ceiling is the highest value of a bucket.
func ceiling(i int) time.Duration {
	shift := max(i/steps-1, 0)
	return time.Duration((uint64(i-shift*steps)+1)<<shift - 1)
}
