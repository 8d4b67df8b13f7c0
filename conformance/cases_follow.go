package conformance

import (
	"fmt"
	"maps"
	"strconv"
	"sync"

	"github.com/polykv/polykv/kv"
)

func followCases() []testCase {
	return []testCase{
		{"F1", "in-step", "a followed range comes to what the store has, and shows nothing before it is complete", needWatch, followInStep},
		{"F1", "cut", "a followed range says since when it is behind while the line is cut, and catches up", needWatch | needLine, followThroughCut},
		{"F2", "own-writes", "who waits for the version of a write finds it, or a later one, in the copy", needWatch | needVersioned, followReadsWrites},
		{"F2", "same-bytes", "the version of a write that changed nothing comes too", needWatch | needVersioned, followSameBytes},
		{"F3", "never-back", "the copy of a key never goes back", needWatch, followNeverBack},
	}
}

// follow follows a range until the end of the case.
func (t *trial) follow(c kv.Client, r kv.Range) *kv.Follower {
	t.Helper()
	f := kv.Follow(t.ctx(), c, r)
	t.Cleanup(f.Close)
	t.ok(f.Ready(t.ctx()), "following %q", r.Key)
	return f
}

// wantCopy waits until a copy is what a listing shows.
func (t *trial) wantCopy(f *kv.Follower, c kv.Client, prefix string) {
	t.Helper()
	want := map[string]any{}
	for e, err := range kv.Entries(t.ctx(), c, prefix) {
		t.ok(err, "Entries")
		want[e.Key] = e.Value
	}
	t.eventually("the copy is what the store has", func() bool {
		got := maps.Collect(f.Entries())
		for key, value := range want {
			if one, ok := f.Get(key); !ok || one != value {
				return false
			}
		}
		return maps.Equal(got, want) && f.Len() == len(want)
	})
}

func followInStep(t *trial) {
	a, b := t.open(), t.open()
	keys := t.fill(a, "p/", 12)
	t.put(a, "q", "outside")
	f := t.follow(b, kv.PrefixRange("p/"))
	if f.Len() != len(keys) {
		t.Fatalf("a copy that is complete has %d keys, want %d", f.Len(), len(keys))
	}
	if since, why := f.Behind(); !since.IsZero() {
		t.Fatalf("a copy that is complete is behind: %v", why)
	}
	t.delete(a, keys[3])
	t.put(a, keys[4], "changed")
	t.put(a, "p/new", "v")
	t.put(a, "p/passing", "v")
	t.delete(a, "p/passing")
	t.wantCopy(f, a, "p/")
	one := t.follow(b, kv.KeyRange("p/new")) // within what is followed already
	if v, ok := one.Get("p/new"); one.Len() != 1 || !ok || v != "v" {
		t.Fatalf("the copy of a key has %d keys, and %s", one.Len(), show(v))
	}
}

func followThroughCut(t *trial) {
	c, line := t.openLine()
	writer := t.open()
	t.put(writer, "p/stays", "v")
	t.put(writer, "p/goes", "v")
	f := t.follow(c, kv.PrefixRange("p/"))
	line.Cut()
	t.eventually("the copy says that it is behind", func() bool { since, _ := f.Behind(); return !since.IsZero() })
	if _, why := f.Behind(); why == nil {
		t.Fatalf("a copy that is behind doesn't say why")
	}
	t.delete(writer, "p/goes")
	t.put(writer, "p/comes", "v")
	if f.Len() != 2 {
		t.Fatalf("while the line is cut the copy has %d keys, want the 2 of before", f.Len())
	}
	line.Mend()
	t.eventually("the copy is in step again", func() bool { since, _ := f.Behind(); return since.IsZero() })
	t.wantCopy(f, writer, "p/")
}

func followReadsWrites(t *trial) {
	c, writer := t.open(), t.open()
	f := t.follow(c, kv.PrefixRange("p/"))
	v := t.versions(writer)
	t.each(4, func(g int) {
		for i := range t.many(40, 5) {
			key := fmt.Sprintf("p/%d-%d", g, i%3)
			_, prev, err := v.GetVersion(t.ctx(), key)
			t.ok(err, "GetVersion")
			now, err := v.SwapVersion(t.ctx(), key, prev, strconv.Itoa(i))
			t.ok(err, "SwapVersion")
			t.ok(f.WaitFor(t.ctx(), now), "waiting for version %d of %q", now, key)
			if got, _ := f.Get(key); got != strconv.Itoa(i) {
				t.Fatalf("after version %d of %q, %q, the copy has %s", now, key, strconv.Itoa(i), show(got))
			}
			if f.Version() < now {
				t.Fatalf("a copy that has seen version %d says %d", now, f.Version())
			}
		}
	})
}

func followSameBytes(t *trial) {
	c, writer := t.open(), t.open()
	f := t.follow(c, kv.PrefixRange("p/"))
	v := t.versions(writer)
	var version kv.Version
	for range 4 {
		var err error
		version, err = v.SwapVersion(t.ctx(), "p/k", version, "same")
		t.ok(err, "SwapVersion")
		t.returns("waiting for the version of a write", func() { t.ok(f.WaitFor(t.ctx(), version), "WaitFor") })
	}
}

func followNeverBack(t *trial) {
	c, writer := t.open(), t.open()
	t.put(writer, "p/k", "0")
	f := t.follow(c, kv.PrefixRange("p/"))
	rounds := t.many(200, 20)
	var reading sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for last := 0; last < rounds && t.ctx().Err() == nil && !t.Failed(); {
				changed := f.Changed()
				v, _ := f.Get("p/k")
				s, _ := v.(string)
				now, err := strconv.Atoi(s)
				if err != nil || now < last {
					t.Errorf("the copy has %s after %d", show(v), last)
					return
				}
				if last = now; now < rounds {
					select {
					case <-changed:
					case <-t.ctx().Done():
					}
				}
			}
		})
	}
	for i := range rounds {
		t.put(writer, "p/k", strconv.Itoa(i+1))
		if i%10 == 0 { // so that the copy is shown many states, however slow its watch is
			t.eventually("the copy follows", func() bool { v, _ := f.Get("p/k"); return v == strconv.Itoa(i+1) })
		}
	}
	t.returns("the copy comes to the last state", reading.Wait)
}
