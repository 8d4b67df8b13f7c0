package consul

import (
	"bytes"
	"context"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// A watch that comes before Restart is told is fed from the snapshot that it begins, so
// that must have what was written by then.
func TestRestartComesBeforeItsSnapshotIsRead(t *testing.T) {
	t.Parallel()
	c := servertest.Consul(t, testserver.Options{})
	s := openStore(t, configFor(c))
	drivertest.Put(t, s, "a", "1")
	raw := rawClient(t, c)
	backup := save(t, raw)
	drivertest.Put(t, s, "a", "2")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	restarted, has := false, false
	err := s.Watch(ctx, driver.WatchRequest{Range: driver.Range{IsPrefix: true}}, func(ev driver.Event) {
		switch {
		case ev.Type == driver.Restart:
			restarted = true
			drivertest.Put(t, s, "late", "1")
		case ev.Type == driver.Synced && !restarted:
			if err := raw.Snapshot().Restore(nil, bytes.NewReader(backup)); err != nil {
				t.Error(err)
			}
		case ev.Type == driver.Synced:
			cancel()
		default:
			has = has || ev.Entry.Key == "late"
		}
	})
	if !restarted || !has {
		t.Errorf("restarted: %v, and what was written by then is in the snapshot: %v; %v", restarted, has, err)
	}
}
