package multi_test

import (
	"errors"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
)

// A cutover ends every lock, since no version outlives it: the holder is told,
// what it writes is refused, and it gets the lock again in the new store.
func TestACutoverEndsLocks(t *testing.T) {
	r := newRig(t)
	c := r.client(nil)
	l, err := coordination.NewLock(c, "lock", coordination.Options{TTL: 3 * time.Second, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	held, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fenced, err := held.Client()
	if err != nil {
		t.Fatal(err)
	}
	put(t, fenced, "k", "under the lock")
	r.cutover()
	if err := fenced.CAS(t.Context(), "k", increment); !errors.Is(err, kv.ErrFenced) {
		t.Errorf("a write under the lock of before the cutover: %v", err)
	}
	eventually(t, "the holder is told", func() bool { return errors.Is(held.Err(), coordination.ErrLost) })
	again, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if fenced, err = again.Client(); err != nil {
		t.Fatal(err)
	}
	put(t, fenced, "k", "under the lock again")
	if err := again.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}
