package kv

import (
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

// point is a position that covers those which are no higher.
type point int

func (p point) Covers(other driver.Position) bool { return p >= other.(point) }

// Where a range stood tells nothing of another, nor of a watch that came later:
// who left while the store was asked waits for an answer of his own.
func TestAnswerIsForThoseWhoWaited(t *testing.T) {
	e := &engine{}
	e.gate.closed = true // nobody asks but the test
	of := func(r Range) *upstream {
		return &upstream{e: e, rng: r, ctx: t.Context(), session: 1, held: map[string]*holding{}, keys: map[string][]*downstream{}}
	}
	wide, narrow := of(PrefixRange("")), of(PrefixRange("a/"))
	watch := func() *downstream {
		d := &downstream{ctx: t.Context(), rng: narrow.rng, table: newWatchTable(func(string) bool { return true }, nil)}
		wide.join(d)
		return d
	}
	stays, moves, returns := watch(), watch(), watch()
	if ok, full := wide.ask(); !ok || full {
		t.Fatal("nobody waits")
	}
	wide.leave(moves)
	narrow.join(moves)
	wide.leave(returns)
	wide.join(returns)
	wide.located(point(7))
	if stays.goal != driver.Position(point(7)) || moves.goal != nil || returns.goal != nil {
		t.Errorf("the goals are %v, %v, %v", stays.goal, moves.goal, returns.goal)
	}
	if ok, _ := wide.ask(); !ok || stays.asked != 1 || returns.asked != 2 {
		t.Error("the one that came back is not asked for")
	}
}
