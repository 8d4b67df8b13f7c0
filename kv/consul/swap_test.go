package consul

import (
	"errors"
	"slices"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

func TestSwapCreateUpdateRemove(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	if e := drivertest.Get(t, s, key); e.Exists() || e.Key != key || e.Value != nil {
		t.Fatalf("absent key: %+v", e)
	}
	one := drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("1")}, driver.Applied)
	if e := drivertest.Get(t, s, key); string(e.Value) != "1" || e.Version != one.Entry.Version || !one.Known {
		t.Fatalf("read %+v after %+v", e, one)
	}
	drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("x")}, driver.Conflict)
	two := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one.Entry, Value: []byte("2")}, driver.Applied)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one.Entry, Value: []byte("x")}, driver.Conflict)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one.Entry, Remove: true}, driver.Conflict)
	if e := drivertest.Get(t, s, key); string(e.Value) != "2" || e.Version != two.Entry.Version {
		t.Fatalf("read %+v after %+v", e, two)
	}
	gone := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: two.Entry, Remove: true}, driver.Applied)
	if !gone.Known || gone.Entry.Exists() || drivertest.Get(t, s, key).Exists() {
		t.Fatalf("removed key: %+v", gone)
	}
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: two.Entry, Value: []byte("x")}, driver.Conflict)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: two.Entry, Remove: true}, driver.Conflict)
	if gen := drivertest.Get(t, s, key).Generation; gen != one.Entry.Generation || gen != gone.Entry.Generation {
		t.Errorf("generations %d, %d and %d", one.Entry.Generation, gone.Entry.Generation, gen)
	}
}

// The same write again changes nothing in Consul, which keeps its index.
func TestSameWriteAgain(t *testing.T) {
	s, p := openShared(t)
	w := driver.Swap{Key: p + "k", Value: []byte("v"), ID: 42}
	first := drivertest.Swap(t, s, w, driver.Applied).Entry
	w.Prev = first
	if again := drivertest.Swap(t, s, w, driver.Applied).Entry; again.Version != first.Version || again.Generation != first.Generation {
		t.Fatalf("%+v after %+v", again, first)
	}
}

func TestSwapNoticesDeleteAndRecreate(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	seen := drivertest.Put(t, s, key, "same")
	drivertest.Remove(t, s, key)
	again := drivertest.Put(t, s, key, "same")
	for _, remove := range []bool{false, true} {
		drivertest.Swap(t, s, driver.Swap{Key: key, Prev: seen, Value: []byte("x"), Remove: remove}, driver.Conflict)
	}
	if e := drivertest.Get(t, s, key); e.Version != again.Version {
		t.Fatalf("%+v", e)
	}
}

func TestEmptyValueExists(t *testing.T) {
	s, p := openShared(t)
	drivertest.EmptyValue(t, s, p+"k")
}

func TestGuards(t *testing.T) {
	s, p := openShared(t)
	key, fence := p+"k", p+"fence"
	old := drivertest.Put(t, s, fence, "1")
	now := drivertest.Put(t, s, fence, "2")
	holds := []driver.Guard{{Key: fence, Version: now.Version}}
	broken := []driver.Guard{{Key: fence, Version: old.Version}}
	absent := []driver.Guard{{Key: p + "nothing", Version: now.Version}}

	one := drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("1"), Guards: holds}, driver.Applied).Entry
	if e := drivertest.Get(t, s, key); e.Version != one.Version {
		t.Fatalf("read %+v after %+v", e, one)
	}
	for _, guard := range [][]driver.Guard{broken, absent, slices.Concat(holds, broken), slices.Concat(absent, holds)} {
		drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("x"), Guards: guard}, driver.GuardBroken)
		drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("x"), Guards: guard}, driver.GuardBroken) // and a conflict
		drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Remove: true, Guards: guard}, driver.GuardBroken)
		drivertest.Swap(t, s, driver.Swap{Key: key, Prev: now, Remove: true, Guards: guard}, driver.GuardBroken) // and a conflict
	}
	drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("x"), Guards: holds}, driver.Conflict)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: now, Remove: true, Guards: holds}, driver.Conflict)
	for _, guards := range [][]driver.Guard{holds, broken, absent, slices.Concat(holds, broken), slices.Concat(absent, holds), slices.Concat(holds, holds)} {
		var want error
		if slices.Contains(guards, broken[0]) || slices.Contains(guards, absent[0]) {
			want = driver.ErrFenced
		}
		for _, k := range []string{key, p + "absent"} {
			e, err := s.Get(t.Context(), driver.GetRequest{Key: k, Guards: guards})
			if !errors.Is(err, want) || err == nil && e.Key != k || (k == key && err == nil) != e.Exists() {
				t.Errorf("get of %s under %+v: %+v, %v; want %v", k, guards, e, err, want)
			}
		}
	}
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Remove: true, Guards: holds}, driver.Applied)
}

// A guard on the key itself is one more condition on it.
func TestGuardOnTheKeyItself(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	one := drivertest.Put(t, s, key, "1")
	self := []driver.Guard{{Key: key, Version: one.Version}}
	two := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("2"), Guards: self}, driver.Applied).Entry
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("x"), Guards: self}, driver.GuardBroken)
	self[0].Version = two.Version
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Remove: true, Guards: self}, driver.Conflict)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: two, Remove: true, Guards: self}, driver.Applied)
}

func TestResolve(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	prev := drivertest.Put(t, s, key, "0")
	mine := driver.Swap{Key: key, Prev: prev, Value: []byte("mine"), ID: 7}
	removal := driver.Swap{Key: key, Prev: prev, Remove: true, ID: 7}
	check := func(what string, w driver.Swap, want driver.Outcome) {
		t.Helper()
		if got := s.Resolve(w, drivertest.Get(t, s, key)); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	drivertest.Swap(t, s, mine, driver.Applied)
	check("applied", mine, driver.Applied)
	check("written since a removal", removal, driver.NotApplied)
	drivertest.Put(t, s, key, "theirs")
	check("overwritten", mine, driver.Unknown)
	check("written since a removal", removal, driver.NotApplied)
	other := removal
	other.Prev.Generation++
	check("another history", other, driver.Unknown)
	older := removal
	older.Prev.Version += 1000
	check("a state before Prev", older, driver.Unknown)
	drivertest.Remove(t, s, key)
	check("removed since", mine, driver.Unknown)
	check("removed since a removal", removal, driver.Unknown)
	drivertest.Put(t, s, key, "new")
	check("created anew since", mine, driver.Unknown)
	check("created anew since a removal", removal, driver.Unknown)
	drivertest.Remove(t, s, key)

	mine.Prev = driver.Entry{}
	drivertest.Swap(t, s, mine, driver.Applied)
	check("a creation", mine, driver.Applied)
}
