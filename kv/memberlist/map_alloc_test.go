package memberlist

import (
	"strconv"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// TestApplyAllocations bounds what a node allocates for the change of one entry,
// which nodes write in turn: each node does it for each CAS of all others.
func TestApplyAllocations(t *testing.T) {
	const runs, most = 100, 27
	values := MapCodec[string, int64]{Value: codec.JSON[int64]{}}
	writers := []*loopback{newLoopback(t, time.Now, values), newLoopback(t, time.Now, values), newLoopback(t, time.Now, values)}
	var sent []state.Update
	for _, from := range writers {
		from.store.OnLocal(func(u state.Update) {
			sent = append(sent, u)
			for _, to := range writers {
				to.store.Apply(u, nil)
			}
		})
	}
	for i := range 100 + 3*runs {
		c, err := writers[i%3].clients.new(values, kv.Options{})
		if err != nil {
			t.Fatal(err)
		}
		m := NewMap[string, int64]()
		err = c.CAS(t.Context(), "table", func(in any) (any, bool, error) {
			if in != nil {
				m = in.(*Map[string, int64])
			}
			m.Set("entry-"+strconv.Itoa(i%100), int64(i))
			return m, false, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	to := newLoopback(t, time.Now, values)
	apply := func() {
		if a := to.store.Apply(sent[0], nil); a.Outcome != state.Changed {
			t.Fatal(a.Outcome, a.Err)
		}
		sent = sent[1:]
	}
	for len(sent) > runs+1 { // until the entries remember all writers
		apply()
	}
	if n := testing.AllocsPerRun(runs, apply); n > most {
		t.Errorf("a change of one entry takes %v allocations, at most %d are expected", n, most)
	}
	for _, l := range writers {
		l.clients.close()
	}
}
