package inmemory

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/kv/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// get fails the test on any error.
func get(t testing.TB, h driver.Store, key string) driver.Entry {
	t.Helper()
	e, err := h.Get(ctx, driver.GetRequest{Key: key})
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	return e
}

// swap fails the test on an error or another outcome than want.
func swap(t testing.TB, h driver.Store, s driver.Swap, want driver.Outcome) driver.Entry {
	t.Helper()
	r, err := h.Swap(ctx, s)
	if err != nil || r.Outcome != want {
		t.Fatalf("Swap(%+v) = %+v, %v; want %v", s, r, err, want)
	}
	return r.Entry
}

// put writes value whatever is there.
func put(t testing.TB, h driver.Store, key, value string) driver.Entry {
	t.Helper()
	for {
		r, err := h.Swap(ctx, driver.Swap{Key: key, Prev: get(t, h, key), Value: []byte(value), ID: 1})
		if err != nil {
			t.Fatal(err)
		}
		if r.Outcome == driver.Applied {
			return r.Entry
		}
	}
}

func remove(t testing.TB, h driver.Store, key string) {
	t.Helper()
	swap(t, h, driver.Swap{Key: key, Prev: get(t, h, key), Remove: true, ID: 1}, driver.Applied)
}

// receive fails the test if nothing comes.
func receive[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}
