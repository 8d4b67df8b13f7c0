package conformance

import (
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func getCases() []testCase {
	return []testCase{
		{"G1", "after-cas", "a Get that starts after a CAS returned sees it, on every client", 0, getAfterCAS},
		{"G1", "after-delete", "a Get that starts after a Delete returned sees it, on every client", 0, getAfterDelete},
		{"G1", "absent", "Get of an absent key is nil without an error", 0, getAbsent},
		{"G1", "not-backwards", "reads on any client never fall behind a write that has returned, while others write", 0, getNotBackwards},
		{"G1", "byte-for-byte", "values come back byte for byte: empty, binary, large", 0, valuesByteForByte},
		{"G1", "history", "concurrent CAS and Get are linearizable", needOneStore, historyOf(mixReads)},
		{"G1", "converges", "what one node wrote appears on the others", needManyNodes, nodesConverge},
	}
}

func getAfterCAS(t *trial) {
	clients := t.openN(3)
	for i := range 60 {
		value := strconv.Itoa(i)
		t.put(clients[i%3], "k", value)
		for _, c := range clients {
			t.wantGet(c, "k", value)
		}
	}
}

func getAfterDelete(t *trial) {
	clients := t.openN(3)
	for i := range 20 {
		t.put(clients[i%3], "k", strconv.Itoa(i))
		t.wantGet(clients[(i+1)%3], "k", strconv.Itoa(i))
		t.delete(clients[(i+1)%3], "k")
		for _, c := range clients {
			t.wantGet(c, "k", nil)
		}
	}
}

func getAbsent(t *trial) {
	c := t.open()
	t.wantGet(c, "absent", nil)
	t.put(c, "absent/not", "v")
	t.wantGet(c, "absent", nil)
	t.wantGet(c, "absent/no", nil)
	t.wantGet(c, "absent/nothing", nil)
}

func getNotBackwards(t *trial) {
	const reads = 100
	writers, readers := t.openN(2), t.openN(4)
	var returned atomic.Int64 // the newest value whose write has returned
	var reading atomic.Int64
	reading.Store(int64(len(readers)))
	t.each(len(writers)+len(readers), func(i int) {
		if i < len(writers) {
			for reading.Load() > 0 {
				wrote := 0
				t.ok(t.cas(writers[i], "k", func(in any) (any, bool, error) {
					wrote = number(in) + 1
					return strconv.Itoa(wrote), false, nil
				}), "CAS")
				raise(&returned, int64(wrote))
				runtime.Gosched()
			}
			return
		}
		defer reading.Add(-1)
		for range reads {
			before := returned.Load()
			if got := number(t.get(readers[i-len(writers)], "k")); int64(got) < before {
				t.Fatalf("Get returned %d, but it began after the write of %d had returned", got, before)
			}
			runtime.Gosched()
		}
	})
}

// raise sets n to at least v.
func raise(n *atomic.Int64, v int64) {
	for old := n.Load(); old < v && !n.CompareAndSwap(old, v); old = n.Load() {
	}
}

func valuesByteForByte(t *trial) {
	a, b := t.openWith(codec.Bytes{}), t.openWith(codec.Bytes{})
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	large := make([]byte, 100<<10)
	for i := range large {
		large[i] = byte(i * i >> 3)
	}
	for i, value := range [][]byte{{}, {0}, {0, 0}, every, []byte("\xff\xfe"), []byte(`"json"`), large} {
		key := fmt.Sprintf("v%d", i)
		t.put(a, key, value)
		got, ok := t.get(b, key).([]byte)
		if !ok || string(got) != string(value) {
			t.Fatalf("wrote %d bytes %s, Get returned %s", len(value), show(string(value)), show(t.get(b, key)))
		}
		w := t.watchKey(b, key)
		w.until("the value", func(calls []seen) bool { return len(calls) > 0 })
		if got := w.of(key)[0]; !reflect.DeepEqual(got, any(value)) {
			t.Fatalf("wrote %d bytes, a watch delivered %s", len(value), show(got))
		}
	}
}

func nodesConverge(t *trial) {
	here := t.open()
	there := t.own(t.store.OpenElsewhere(codec.String{}, t.options(nil)))
	t.put(here, "a", "from here")
	t.put(there, "b", "from there")
	for _, c := range []kv.Client{here, there} {
		t.eventually("both nodes have both values", func() bool {
			return t.get(c, "a") == "from here" && t.get(c, "b") == "from there"
		})
	}
	t.delete(here, "b")
	t.eventually("the deletion arrives", func() bool { return t.get(there, "b") == nil })
}
