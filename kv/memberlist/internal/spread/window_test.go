package spread

import (
	"testing"

	"pgregory.net/rapid"
)

// TestWindow compares a window with a set of everything that was ever seen.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen := map[uint64]bool{}
		var top, ask uint64
		known := func(seq uint64) bool { return seq+windowSize > top }

		raise := func(seq uint64) (lost bool) {
			switch {
			case ask == 0:
				ask = seq
			case seq <= top:
				return false
			case seq-top >= windowSize:
				ask, lost = seq, true
				clear(seen)
			default:
				for s := ask; s+windowSize <= seq; s++ {
					if s+windowSize > top && !seen[s] {
						lost = true
					}
				}
			}
			top = seq
			return lost
		}
		t.Repeat(map[string]func(*rapid.T){
			"mark": func(t *rapid.T) {
				seq := near(t, top)
				wantFresh := known(seq) && !seen[seq]
				wantLost := raise(seq)
				fresh, lost := w.mark(seq)
				if fresh != wantFresh || lost != wantLost {
					t.Fatalf("mark(%d): fresh %v, lost %v, want %v, %v", seq, fresh, lost, wantFresh, wantLost)
				}
				seen[seq] = true
			},
			"reach": func(t *rapid.T) {
				seq := near(t, top)
				first := ask == 0
				wantLost := raise(seq)
				if first {
					ask = seq + 1
				}
				if lost := w.reach(seq); lost != wantLost {
					t.Fatalf("reach(%d): lost %v, want %v", seq, lost, wantLost)
				}
			},
			"giveUp": func(t *rapid.T) {
				s := span{near(t, top), near(t, top)}
				w.giveUp(s)
				for seq := max(ask, s.from); seq <= min(s.to, top); seq++ {
					if known(seq) {
						seen[seq] = true
					}
				}
			},
			"": func(t *rapid.T) {
				want := map[uint64]bool{}
				for seq := max(ask, 1); seq <= top; seq++ {
					if known(seq) && !seen[seq] {
						want[seq] = true
					}
				}
				n := 0
				for _, s := range w.missing(windowSize) {
					for seq := s.from; seq <= s.to; seq++ {
						if n++; !want[seq] {
							t.Fatalf("%d is not missing", seq)
						}
					}
				}
				if n != len(want) || n != w.holes {
					t.Fatalf("%d missing, %d holes, want %d", n, w.holes, len(want))
				}
			},
		})
	})
}

// near draws a sequence about top, rarely far from it.
func near(t *rapid.T, top uint64) uint64 {
	reach := rapid.SampledFrom([]uint64{3, 3, 10, 100, windowSize, 3 * windowSize}).Draw(t, "reach")
	low := uint64(1)
	if top > reach {
		low = top - reach
	}
	return rapid.Uint64Range(low, top+reach).Draw(t, "sequence")
}

func TestWindowForgedSequence(t *testing.T) {
	var w window
	w.mark(5)
	w.reach(1 << 63)
	w.giveUp(span{0, 1<<64 - 1})
	if got := w.missing(8); len(got) != 0 {
		t.Fatalf("missing %v after giving up everything", got)
	}
}

func TestWindowMissingIsBounded(t *testing.T) {
	var w window
	for seq := uint64(1); seq < 100; seq += 2 {
		w.mark(seq)
	}
	if got := w.missing(4); len(got) != 4 || got[3] != (span{8, 8}) {
		t.Fatalf("the four oldest gaps: %v", got)
	}
}
