package multi_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv/multi/internal/side"
)

// heartbeats reads those in a store.
func (r *rig) heartbeats(at int) []side.Heartbeat {
	r.t.Helper()
	all, err := r.sideOf(at).Heartbeats(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// A fleet tells of a cutover within half a second, in both stores, not when the
// next heartbeats are due, and not all at the same moment.
func TestHeartbeatsTellOfACutoverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 20
		r := newRig(t)
		for range clients {
			put(t, r.client(nil), "k", "v")
		}
		time.Sleep(time.Second)
		for at := range r.admins {
			for _, h := range r.heartbeats(at) {
				if h.Primary != "first" || h.Epoch != 1 || h.Mirror != "second" {
					t.Fatalf("before the cutover a client uses %q of epoch %d and mirrors into %q", h.Primary, h.Epoch, h.Mirror)
				}
			}
		}
		r.cutover()
		ended := time.Now()
		time.Sleep(time.Second)
		for at := range r.admins {
			all := r.heartbeats(at)
			if len(all) != clients {
				t.Fatalf("store %d has %d heartbeats of %d clients", at, len(all), clients)
			}
			first, last := all[0].Seen, all[0].Seen
			for _, h := range all {
				if h.Primary != "second" || h.Epoch != 2 || h.Mirror != "first" {
					t.Errorf("a second after the cutover, says store %d, a client uses %q of epoch %d and mirrors into %q", at, h.Primary, h.Epoch, h.Mirror)
				}
				if h.Beat > 4 {
					t.Errorf("a client has written %d heartbeats", h.Beat)
				}
				if h.Seen.Before(first) {
					first = h.Seen
				}
				if h.Seen.After(last) {
					last = h.Seen
				}
			}
			t.Logf("store %d: from %v to %v after the cutover", at, first.Sub(ended), last.Sub(ended))
			if last.Sub(first) < 50*time.Millisecond {
				t.Errorf("%d clients wrote their heartbeats within %v", clients, last.Sub(first))
			}
		}
	})
}
