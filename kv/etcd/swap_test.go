package etcd

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
	one := drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("1")}, driver.Applied).Entry
	two := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("2")}, driver.Applied).Entry
	got := drivertest.Get(t, s, key)
	if string(got.Value) != "2" || got.Version != two.Version || *got.Meta.(*meta) != *two.Meta.(*meta) {
		t.Fatalf("got %+v %+v, swap said %+v %+v", got, got.Meta, two, two.Meta)
	}
	res := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("x")}, driver.Conflict)
	if !res.Known || string(res.Entry.Value) != "2" || res.Entry.Version != two.Version {
		t.Fatalf("conflict: %+v", res)
	}
	if res := drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("x")}, driver.Conflict); string(res.Entry.Value) != "2" {
		t.Fatalf("conflict on creating: %+v", res)
	}
	gone := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: two, Remove: true}, driver.Applied)
	if gone.Entry.Exists() || drivertest.Get(t, s, key).Exists() {
		t.Fatalf("removed key: %+v", gone)
	}
	res = drivertest.Swap(t, s, driver.Swap{Key: key, Prev: two, Value: []byte("x")}, driver.Conflict)
	if !res.Known || res.Entry.Exists() || res.Entry.Key != key {
		t.Fatalf("conflict with a removed key: %+v", res)
	}
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: two, Remove: true}, driver.Conflict)
}

// A key that was deleted and created again has the per-key version it had
// before; only its ModRevision tells.
func TestSwapNoticesDeleteAndRecreate(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	seen := drivertest.Put(t, s, key, "same")
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: seen, Remove: true}, driver.Applied)
	again := drivertest.Put(t, s, key, "same")
	if again.Meta.(*meta).writes != seen.Meta.(*meta).writes {
		t.Fatal("the test needs equal per-key versions")
	}
	for _, remove := range []bool{false, true} {
		res := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: seen, Value: []byte("x"), Remove: remove}, driver.Conflict)
		if res.Entry.Version != again.Version {
			t.Fatalf("%+v", res)
		}
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
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("x"), Guards: broken}, driver.GuardBroken)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("x"), Guards: absent}, driver.GuardBroken)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("x"), Guards: slices.Concat(holds, broken)}, driver.GuardBroken)
	drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("x"), Guards: slices.Concat(absent, holds)}, driver.GuardBroken) // and a conflict
	drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("x"), Guards: broken}, driver.GuardBroken)                       // and a conflict
	res := drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("x"), Guards: holds}, driver.Conflict)
	if string(res.Entry.Value) != "1" {
		t.Fatalf("conflict under a guard: %+v", res)
	}
	for _, guards := range [][]driver.Guard{holds, broken, absent, slices.Concat(holds, broken), slices.Concat(absent, holds), slices.Concat(holds, holds)} {
		var want error
		if slices.Contains(guards, broken[0]) || slices.Contains(guards, absent[0]) {
			want = driver.ErrFenced
		}
		for _, k := range []string{key, p + "absent"} {
			e, err := s.Get(t.Context(), driver.GetRequest{Key: k, Guards: guards})
			if !errors.Is(err, want) || e.Key != k && err == nil || (k == key && err == nil) != e.Exists() {
				t.Errorf("get of %s under %+v: %+v, %v; want %v", k, guards, e, err, want)
			}
		}
	}
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Remove: true, Guards: broken}, driver.GuardBroken)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Remove: true, Guards: holds}, driver.Applied)
}

func TestResolve(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	first := drivertest.Put(t, s, key, "0")
	prev := drivertest.Put(t, s, key, "1")
	mine := driver.Swap{Key: key, Prev: prev, Value: []byte("mine"), ID: 7}
	removal := driver.Swap{Key: key, Prev: prev, Remove: true, ID: 7}
	check := func(what string, w driver.Swap, now driver.Entry, want driver.Outcome) {
		t.Helper()
		if got := s.Resolve(w, now); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	drivertest.Put(t, s, key, "theirs")
	one := drivertest.Get(t, s, key)
	check("one other write since", mine, one, driver.NotApplied)
	check("one other write since a removal", removal, one, driver.NotApplied)
	equal := mine
	equal.Value = one.Value
	check("one write of equal bytes", equal, one, driver.Unknown)
	unknown := mine
	unknown.Prev.Meta = nil
	check("Prev without counters", unknown, one, driver.Unknown)
	create := mine
	create.Prev = driver.Entry{Key: key}
	check("a creation", create, one, driver.Unknown)
	other := mine
	other.Prev.Generation++
	check("another history", other, one, driver.Unknown)
	check("a state before Prev", mine, first, driver.Unknown)

	drivertest.Put(t, s, key, "more")
	two := drivertest.Get(t, s, key)
	check("two writes since", mine, two, driver.Unknown)
	check("two writes since a removal", removal, two, driver.NotApplied)
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: two, Remove: true}, driver.Applied)
	check("removed since", mine, drivertest.Get(t, s, key), driver.Unknown)
	check("removed since a removal", removal, drivertest.Get(t, s, key), driver.Unknown)
	drivertest.Put(t, s, key, "new")
	check("created anew since", mine, drivertest.Get(t, s, key), driver.Unknown)
	check("created anew since a removal", removal, drivertest.Get(t, s, key), driver.Unknown)
}
