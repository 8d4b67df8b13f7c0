package consul

import (
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv"
)

// A watch of nothing that joins another one is in step before the other's query
// has waited its time, though nothing that happens elsewhere ends that query.
func TestLateWatchOfNothing(t *testing.T) {
	t.Parallel()
	cfg := configFor(single.Get(t))
	cfg.WaitTime = maxWaitTime
	s, err := Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := kv.New(s, codec.String{}, nil)
	defer func() { _ = client.Close() }()
	other, p := openShared(t)
	ctx := drivertest.WithTimeout(t, 50*time.Second)
	var watches sync.WaitGroup
	defer watches.Wait()
	watch := func(r kv.Range) {
		t.Helper()
		synced := make(chan struct{})
		watches.Go(func() {
			_ = kv.Watch(t.Context(), client, r, func(ev kv.Event) bool {
				if ev.Type == kv.Synced {
					close(synced)
				}
				return true
			})
		})
		select {
		case <-synced:
		case <-ctx.Done():
			t.Errorf("a watch of %v is not in step", r)
		}
	}
	for _, r := range []kv.Range{kv.KeyRange(p + "absent"), kv.PrefixRange(p + "empty/")} {
		watch(r)
		drivertest.Put(t, other, "elsewhere/"+p, r.Key)
		watch(r)
	}
	_ = client.Close()
}
