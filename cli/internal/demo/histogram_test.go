package demo

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestPercentilesAreNearTheTruth(t *testing.T) {
	var h histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(rand.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, p := range []float64{0, 0.5, 0.9, 0.99, 0.999} {
		truth, got := all[int(p*float64(len(all)))], h.percentile(p)
		if got < truth || got > truth+truth/steps {
			t.Errorf("p%v is %v, got %v", p*100, truth, got)
		}
	}
	if h.percentile(1) != all[len(all)-1] || h.max != all[len(all)-1] {
		t.Errorf("max %v, got %v and %v", all[len(all)-1], h.percentile(1), h.max)
	}
}

func TestEveryDurationHasABucket(t *testing.T) {
	last := -1
	for shift := range 63 {
		for _, n := range []uint64{1<<shift - 1, 1 << shift, 1<<shift + 1<<shift/2} {
			if i := bucket(n); i < 0 || i >= buckets || i < last || ceiling(i) < time.Duration(n) {
				t.Errorf("%d is in bucket %d up to %d", n, bucket(n), ceiling(i))
			} else {
				last = i
			}
		}
	}
	if bucket(1<<63-1) >= buckets {
		t.Error("the longest duration has no bucket")
	}
}

func TestEmptyHistogram(t *testing.T) {
	var h histogram
	if h.percentile(0.5) != 0 {
		t.Error(h.percentile(0.5))
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 calls", 1: "1 call", 999: "999 calls", 1000: "1,000 calls", 1234567: "1,234,567 calls"} {
		if got := count(n, "call"); got != want {
			t.Errorf("count(%d) is %q", n, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 999: "999ns", 1234: "1.23µs", 1_234_567: "1.23ms", 12_345_678_901: "12.3s",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%d) is %q, want %q", d, got, want)
		}
	}
}
