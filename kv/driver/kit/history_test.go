package kit_test

import (
	"testing"

	"github.com/polykv/polykv/kv/driver/kit"
)

func TestHistory(t *testing.T) {
	h := kit.NewHistory()
	see := func(m kit.Mark, cluster, index uint64, e kit.Evidence) (uint64, error) {
		return h.Observe(m, kit.Answer{Cluster: cluster, Index: index, Evidence: e})
	}
	expect := func(what string, want uint64) func(uint64, error) {
		return func(gen uint64, err error) {
			t.Helper()
			if gen != want || (err != nil) != (want == 0) {
				t.Errorf("%s: generation %d, %v; want %d", what, gen, err, want)
			}
		}
	}
	early := h.Mark()
	expect("first answer", 1)(see(early, 7, 100, kit.Current))
	expect("late answer to an early call", 1)(see(early, 7, 90, kit.Current))
	now := h.Mark()
	if now.High != 100 {
		t.Errorf("a late answer lowered the highest index to %d", now.High)
	}
	expect("stale read", 1)(see(now, 7, 90, kit.Reached))
	if high := h.Mark().High; high != 100 {
		t.Errorf("a stale read lowered the highest index to %d", high)
	}
	expect("same index", 1)(see(now, 7, 100, kit.Current))
	expect("a write after it", 1)(see(now, 7, 101, kit.Written))
	now = h.Mark()
	expect("index fell", 2)(see(now, 7, 50, kit.Current))
	expect("call from before that", 0)(see(now, 7, 120, kit.Current))
	select {
	case <-now.Ended:
	default:
		t.Error("nobody was told")
	}
	expect("an answer that names no cluster", 2)(see(h.Mark(), 0, 50, kit.Reached))
	now = h.Mark()
	expect("set back for good", 2)(see(now, 7, 51, kit.Current))
	expect("another cluster", 3)(see(h.Mark(), 8, 60, kit.Reached))
	expect("and on", 3)(see(h.Mark(), 8, 60, kit.Current))
	expect("a write at an index that was reached before", 4)(see(h.Mark(), 8, 60, kit.Written))
}

func TestEpoch(t *testing.T) {
	h := kit.NewHistory()
	last := h.Epoch()
	for _, step := range []struct {
		name  string
		do    func()
		moves bool
	}{
		{"first answer", answers(h, 1, 5), false},
		{"the same again", answers(h, 1, 5), false},
		{"another member", answers(h, 2, 5), true},
		{"both are known", answers(h, 1, 5), false},
		{"a member that lags", answers(h, 2, 4), false},
		{"another term", answers(h, 1, 6), true},
		{"the same term by another", answers(h, 2, 6), false},
		{"a connection", h.Connected, true},
	} {
		step.do()
		if now := h.Epoch(); (now != last) != step.moves {
			t.Errorf("%s: epoch %d after %d", step.name, now, last)
		}
		last = h.Epoch()
	}
}

func answers(h *kit.History, member, term uint64) func() {
	return func() { _, _ = h.Observe(h.Mark(), kit.Answer{Member: member, Term: term}) }
}

// More members than a cluster has are forgotten, and new when they answer again.
func TestMembersAreForgotten(t *testing.T) {
	h := kit.NewHistory()
	for member := range uint64(64) {
		answers(h, member, 1)()
	}
	before := h.Epoch()
	if answers(h, 0, 1)(); h.Epoch() != before {
		t.Error("the first of 64 is not known any more")
	}
	answers(h, 64, 1)()
	before = h.Epoch()
	if answers(h, 0, 1)(); h.Epoch() != before+1 {
		t.Error("65 are known")
	}
}
