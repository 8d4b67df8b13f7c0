package demo

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestPercentilesAreNearTheTruth(t *testing.T) {
	h := newHistogram()
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(rand.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, p := range []float64{0, 50, 90, 99, 99.9} {
		rank, got := int(p/100*float64(len(all))), h.percentile(p)
		if least, most := all[max(0, rank-1)], all[rank]; got < least-least/100 || got > most+most/100 {
			t.Errorf("p%v is between %v and %v, got %v", p, least, most, got)
		}
	}
	for _, d := range []time.Duration{-time.Second, 2 * longest} { // a clock that was set
		h.add(d)
		all = append(all, d)
	}
	if got := h.percentile(100); got < longest || h.TotalCount() != int64(len(all)) {
		t.Errorf("%d of %d count, the longest with %v", h.TotalCount(), len(all), got)
	}
}

func TestEmptyHistogram(t *testing.T) {
	h := newHistogram()
	if h.percentile(50) != 0 {
		t.Error(h.percentile(50))
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
