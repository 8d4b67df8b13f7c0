package memberlist

import (
	"context"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// sender is a loopback whose writes are kept.
type sender struct {
	*loopback
	now  func() time.Time
	maps kv.Client
	sent []state.Update
}

func newSender(t *testing.T, clock func() time.Time) *sender {
	t.Helper()
	s := &sender{loopback: newLoopback(t, clock), now: clock}
	s.store.OnLocal(func(u state.Update) { s.sent = append(s.sent, u) })
	var err error
	if s.maps, err = s.clients.new(counts, kv.DefaultOptions()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.clients.close)
	return s
}

// edit changes the map "m" and returns what has to travel.
func (s *sender) edit(t *testing.T, f func(*Map[string, int])) state.Update {
	t.Helper()
	err := s.maps.CAS(context.Background(), "m", func(in any) (any, bool, error) {
		m, _ := in.(*Map[string, int])
		if m == nil {
			m = NewMap[string, int]()
		}
		f(m)
		return m, false, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.sent[len(s.sent)-1]
}

func (s *sender) lacks(t *testing.T, entry string) {
	t.Helper()
	r := s.store.Get("m")
	if r == nil {
		return
	}
	if m, _ := r.Mergeable().(*Map[string, int]); m != nil {
		if _, ok := m.Get(entry); ok {
			t.Errorf("the entry %q is back", entry)
		}
	}
}

// What a deletion within a Map removed stays known as seen when the deletion goes:
// since a peer has seen and forgotten that one, though not what it removed, or
// since it was too old when it came.
func TestForgottenDeletionOfAnEntryLeavesADot(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	a, b, peer := newSender(t, clock), newSender(t, clock), newSender(t, clock)
	written := a.edit(t, func(m *Map[string, int]) { m.Set("x", 1); m.Set("z", 1) })
	b.store.Apply(written, nil)
	now = now.Add(time.Minute)
	deleted := b.edit(t, func(m *Map[string, int]) { m.Delete("x") })
	b.lacks(t, "x")
	now = now.Add(time.Minute)

	peer.edit(t, func(m *Map[string, int]) { m.Set("y", 1) })
	whole, ok := peer.store.Read(counts.ID, state.KeyDigest{Key: "m"})
	if !ok {
		t.Fatal("nothing to read")
	}
	seen := b.store.Context()
	b.store.Apply(whole, &seen)
	b.store.Apply(written, nil)
	b.lacks(t, "x")

	late := newSender(t, clock)
	late.store.Apply(written, nil)
	now = now.Add(2 * time.Hour)
	late.store.Apply(deleted, nil)
	late.lacks(t, "x")
	late.store.Apply(written, nil)
	late.lacks(t, "x")
}

// So does what was overwritten before its writer had said that it was written:
// when the deletion that follows is forgotten, when the whole Map is deleted, and
// when it goes since a peer has seen its end.
func TestForgottenOverwritingOfAnEntryLeavesADot(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *sender, later func(time.Duration)){
		"the entry is deleted": func(t *testing.T, s *sender, later func(time.Duration)) {
			s.edit(t, func(m *Map[string, int]) { m.Delete("x") })
			later(2 * time.Hour)
		},
		"and was deleted before": func(t *testing.T, s *sender, later func(time.Duration)) {
			s.edit(t, func(m *Map[string, int]) { m.Delete("x") })
			s.edit(t, func(m *Map[string, int]) { m.Set("x", 3) })
			s.edit(t, func(m *Map[string, int]) { m.Delete("x") })
			later(2 * time.Hour)
		},
		"the Map is deleted": func(t *testing.T, s *sender, later func(time.Duration)) {
			if err := s.maps.Delete(context.Background(), "m"); err != nil {
				t.Fatal(err)
			}
			later(2 * time.Hour)
		},
		"a peer has seen the end": func(t *testing.T, s *sender, later func(time.Duration)) {
			later(time.Minute)
			peer := newSender(t, s.now)
			peer.edit(t, func(m *Map[string, int]) { m.Set("y", 1) })
			whole, ok := peer.store.Read(counts.ID, state.KeyDigest{Key: "m"})
			if !ok {
				t.Fatal("nothing to read")
			}
			seen := s.store.Context()
			s.store.Apply(whole, &seen)
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			clock := func() time.Time { return now }
			a, b := newSender(t, clock), newSender(t, clock)
			written := a.edit(t, func(m *Map[string, int]) { m.Set("x", 1) })
			b.store.Apply(written, nil)
			now = now.Add(time.Minute)
			b.edit(t, func(m *Map[string, int]) { m.Set("x", 2); m.Set("z", 1) })
			end(t, b, func(d time.Duration) { now = now.Add(d); b.store.Expire() })
			b.lacks(t, "x")
			b.store.Apply(written, nil)
			b.lacks(t, "x")
		})
	}
}

// What has become empty is a Map all the same: who holds one that is older gives
// it what it lacks.
func TestEmptyMapIsGivenWhatItLacks(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	full, emptied := newSender(t, clock), newSender(t, clock)
	full.edit(t, func(m *Map[string, int]) { m.Set("x", 1) })
	now = now.Add(time.Minute)
	emptied.edit(t, func(m *Map[string, int]) { m.Set("y", 1) })
	emptied.edit(t, func(m *Map[string, int]) { m.Delete("y") })
	now = now.Add(2 * time.Hour)
	emptied.store.Expire()

	bucket := state.BucketOf("m")
	seen := emptied.store.Context()
	_, give, _ := full.store.Compare(counts.ID, bucket, emptied.store.Keys(counts.ID, bucket), &seen)
	if len(give) != 1 {
		t.Error("nothing is given to the empty one")
	}
	seen = full.store.Context()
	want, _, _ := emptied.store.Compare(counts.ID, bucket, full.store.Keys(counts.ID, bucket), &seen)
	if len(want) != 1 {
		t.Error("the empty one wants nothing")
	}
}
