package feed

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/kv/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What ended leaves nothing behind: no watch, no range, no pointer.
func TestEndedWatchesLeaveNothing(t *testing.T) {
	var f Feed
	var mu sync.Mutex
	ctx, cancel := context.WithCancel(t.Context())
	var watches sync.WaitGroup
	synced := make(chan struct{}, 50)
	for i := range 50 {
		r := driver.Range{Key: fmt.Sprintf("key%d", i%10), IsPrefix: i%3 == 0}
		watches.Go(func() {
			_ = f.Watch(ctx, nil, r, func(e driver.Event) {
				if e.Type == driver.Synced {
					synced <- struct{}{}
				}
			}, func(register func()) iter.Seq[driver.Entry] {
				mu.Lock()
				defer mu.Unlock()
				register()
				return func(func(driver.Entry) bool) {}
			})
		})
	}
	for range 50 {
		select {
		case <-synced:
		case <-time.After(30 * time.Second):
			t.Fatal("a watch does not say Synced")
		}
	}
	if n := f.Watches(); n != 50 {
		t.Fatalf("%d watches are counted, 50 are there", n)
	}
	for i := range 10 {
		mu.Lock()
		f.Tell(driver.Entry{Key: fmt.Sprintf("key%d", i), Version: 1})
		mu.Unlock()
	}
	cancel()
	watches.Wait()
	g := &f.watches
	if f.Watches() != 0 || len(g.keys) != 0 || g.prefixes.Len() != 0 {
		t.Errorf("left: %d watches, %d keys, %d prefixes", f.Watches(), len(g.keys), g.prefixes.Len())
	}
	for _, w := range f.told[:cap(f.told)] {
		if w != nil {
			t.Fatal("an ended watch is kept")
		}
	}
}
