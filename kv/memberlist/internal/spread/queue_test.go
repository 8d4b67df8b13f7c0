package spread

import (
	"fmt"
	"testing"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

func whole(key, value string) state.Update {
	return state.Update{Key: key, Codec: "c", V: goldenV, Value: []byte(value)}
}

func TestQueueCoalesces(t *testing.T) {
	q := newQueue()
	q.add(whole("a", "1"), 1000)
	q.add(whole("b", "1"), 1000)
	q.add(whole("a", "2"), 1000)
	part := whole("m", "1")
	part.Partial = true
	q.add(part, 1000)
	q.add(part, 1000)
	q.add(whole("big", string(make([]byte, 2000))), 1000)
	items, behind, upTo := q.take(1<<20, nil)
	got := ""
	for _, it := range items {
		got += fmt.Sprintf("%s=%.1s%d ", it.Key, it.Value, it.size)
	}
	if want := "a=20 b=10 m=10 m=10 big=2000 "; got != want || behind || upTo != 6 {
		t.Errorf("%q, behind %v, up to %d; want %q", got, behind, upTo, want)
	}
	if n, bytes := q.size(); n != 0 || bytes != 0 {
		t.Errorf("%d changes of %d bytes are left", n, bytes)
	}
}

func TestQueueTakesInParts(t *testing.T) {
	q := newQueue()
	for i := range 10 {
		q.add(whole(fmt.Sprint(i), string(make([]byte, 100))), 1000)
	}
	<-q.wake
	drained := q.drained()
	items, _, upTo := q.take(300, nil)
	if len(items) < 2 || len(items) > 4 || upTo != 0 {
		t.Fatalf("%d items, up to %d", len(items), upTo)
	}
	q.done(upTo)
	select {
	case <-q.wake:
	default:
		t.Error("nobody is told of the rest")
	}
	q.add(whole("9", "newer"), 1000)
	rest, _, upTo := q.take(1<<20, nil)
	if n := len(items) + len(rest); n != 10 || string(rest[len(rest)-1].Value) != "newer" {
		t.Errorf("%d items in two parts, the last %q", n, rest[len(rest)-1].Value)
	}
	select {
	case <-drained:
		t.Error("drained while items are being sent")
	default:
	}
	q.done(upTo)
	<-drained
	<-q.drained()
}

func TestQueueIsBounded(t *testing.T) {
	q := newQueue()
	for i := range maxQueued + 10 {
		q.add(whole(fmt.Sprint(i), ""), 1000)
	}
	if n, _ := q.size(); n != maxQueued {
		t.Errorf("%d changes wait, at most %d are allowed", n, maxQueued)
	}
	if _, behind, _ := q.take(1, nil); !behind {
		t.Error("nobody is told that changes were dropped")
	}
	if _, behind, _ := q.take(1, nil); behind {
		t.Error("told twice")
	}
}

func TestPick(t *testing.T) {
	var peers []network.Peer
	for i := range 50 {
		peers = append(peers, network.Peer{ID: fmt.Sprint(i), Instance: uint64(i)})
	}
	seen := map[uint64]int{}
	for range 1000 {
		picked := pick(peers, 4, 7)
		if len(picked) != 4 {
			t.Fatalf("%d of 4", len(picked))
		}
		once := map[uint64]bool{}
		for _, p := range picked {
			once[p.Instance] = true
			seen[p.Instance]++
		}
		if len(once) != 4 || once[7] {
			t.Fatalf("%v", picked)
		}
	}
	if len(seen) != 49 {
		t.Errorf("%d of 49 were ever picked", len(seen))
	}
	if got := pick(peers[:3], 4, 1); len(got) != 2 || len(peers[:3]) != 3 || peers[1].Instance != 1 {
		t.Errorf("of three without one: %v", got)
	}
	if got := pick(nil, 4, 0); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestHelpers(t *testing.T) {
	var h helpers
	for i := range uint64(maxHelpers + 3) {
		h.add("key", i)
	}
	h.add("key", 5)
	got := h.list("key", 9)
	if len(got) != maxHelpers-1 || got[len(got)-1] != 5 {
		t.Errorf("%v: want the newest %d without 9", got, maxHelpers)
	}
	if h.list("other", 0) != nil {
		t.Error("helpers for a key that nobody pulled")
	}
}
