package etcd

import (
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

func TestSwapCreateUpdateRemove(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	if e := get(t, s, key); e.Exists() || e.Key != key {
		t.Fatalf("absent key: %+v", e)
	}
	one := swap(t, s, driver.Swap{Key: key, Value: []byte("1")}, driver.Applied).Entry
	two := swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("2")}, driver.Applied).Entry
	got := get(t, s, key)
	if string(got.Value) != "2" || got.Version != two.Version || *got.Meta.(*meta) != *two.Meta.(*meta) {
		t.Fatalf("got %+v %+v, swap said %+v %+v", got, got.Meta, two, two.Meta)
	}
	res := swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte("x")}, driver.Conflict)
	if !res.Known || string(res.Entry.Value) != "2" || res.Entry.Version != two.Version {
		t.Fatalf("conflict: %+v", res)
	}
	swap(t, s, driver.Swap{Key: key, Prev: two, Remove: true}, driver.Applied)
	if e := get(t, s, key); e.Exists() {
		t.Fatalf("removed key: %+v", e)
	}
	res = swap(t, s, driver.Swap{Key: key, Prev: two, Value: []byte("x")}, driver.Conflict)
	if !res.Known || res.Entry.Exists() {
		t.Fatalf("conflict with a removed key: %+v", res)
	}
}
