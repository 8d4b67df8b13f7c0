package bolt

import (
	"bytes"
	"context"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

// The engine would hide a change that it is told twice, so this looks at what
// the driver emits: many sessions begin while a writer writes, and each sees
// rising versions without a gap.
func TestWatchIsExact(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	entry := put(t, h, "k", "0")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			r, err := h.Swap(t.Context(), driver.Swap{Key: "k", Prev: entry, Value: []byte("v"), ID: 1})
			if err != nil || r.Outcome != driver.Applied {
				t.Errorf("Swap: %v, %v", r.Outcome, err)
				return
			}
			entry = r.Entry
		}
	}()
	for range 1000 {
		if t.Failed() {
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		var seen []driver.Version
		_ = h.Watch(ctx, driver.Range{Key: "k"}, func(ev driver.Event) { // ends with ctx
			if ev.Type == driver.Put {
				seen = append(seen, ev.Entry.Version)
			}
			if len(seen) == 3 {
				cancel()
			}
		})
		cancel()
		for i := 1; i < len(seen); i++ {
			if seen[i] != seen[i-1]+1 {
				t.Errorf("a session saw versions %v", seen)
			}
		}
	}
	close(stop)
	<-stopped
}

// bbolt's memory is valid in a transaction only: it is written over later, or
// unmapped.
func TestValuesOutliveTheTransaction(t *testing.T) {
	var files Files
	cfg := fileOf(t)
	cfg.NoSync = true
	h := open(t, &files, cfg)
	value := bytes.Repeat([]byte("kept"), 1000)
	put(t, h, "k", string(value))

	got := get(t, h, "k").Value
	page, err := h.Scan(t.Context(), driver.ScanRequest{Prefix: "k"})
	if err != nil {
		t.Fatal(err)
	}
	var watched []byte
	ctx, cancel := context.WithCancel(t.Context())
	_ = h.Watch(ctx, driver.Range{Key: "k"}, func(ev driver.Event) { // ends with ctx
		if ev.Type == driver.Put {
			watched = ev.Entry.Value
		}
		cancel()
	})
	for range 20 {
		put(t, h, "k", string(bytes.Repeat([]byte("over"), 1000)))
	}
	for from, v := range map[string][]byte{"Get": got, "Scan": page.Entries[0].Value, "Watch": watched} {
		if !bytes.Equal(v, value) {
			t.Errorf("later writes changed the value that %s gave", from)
		}
	}
}
