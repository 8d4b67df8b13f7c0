package kv_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// Whoever watches what lies in the range of a session is told what the session
// told, from where the store stood after it came.
func TestWatchesJoinASession(t *testing.T) {
	play(t, kv.Options{}, func(s *stage) {
		first := s.watch(a)
		session := s.session(a)
		session.snapshot(5, "a/a", "a/b", "a/c")
		first.was("a/a=1", "a/b=1", "a/c=1", "synced")
		session.emit(driver.Event{Type: driver.Delete, Entry: driver.Entry{Key: "a/c"}, Position: at{n: 6}})
		session.emit(driver.Event{Type: driver.Delete, Entry: driver.Entry{Key: "a/unknown"}, Position: at{n: 6}})
		first.was("deletea/c")

		second := s.watch(a)
		q := s.asked()
		if q.from != (at{n: 6}) {
			t.Errorf("asked from %v", q.from)
		}
		third := s.watch(key) // too late for this answer
		q.is(7, "")
		q = s.asked()
		second.was()
		session.putAt(7, "a/d", "1")
		second.was("a/a=1", "a/b=1", "a/d=1", "synced")
		first.was("a/d=1")
		third.was()
		q.is(7, "")
		third.was("a/b=1", "synced")

		fourth, fifth := s.watch(ab), s.watch(kv.KeyRange("a/absent"))
		s.asked().is(7, "")
		s.asked().is(7, "")
		fourth.was("a/b=1", "synced")
		fifth.was("synced")
		session.putAt(8, "a/b", "2")
		session.putAt(9, "a/absent", "2")
		for _, h := range []*heard{first, second} {
			h.was("a/b=2", "a/absent=2")
		}
		third.was("a/b=2")
		fourth.was("a/b=2")
		fifth.was("a/absent=2")
		elsewhere := kv.KeyRange("c")
		s.watch(elsewhere)
		s.session(elsewhere).snapshot(1)
		s.unasked()

		s.watch(all) // is wider
		s.session(all).snapshot(9, "a/a")
		s.watch(kv.PrefixRange("b/"))
		s.asked().is(9, "")
		s.unasked()
	})
}

// Watches of one key share a session, too, and are within that of the prefix
// which is the key.
func TestWatchesOfAKeyJoinASession(t *testing.T) {
	play(t, kv.Options{}, func(s *stage) {
		first := s.watch(key)
		session := s.session(key)
		session.snapshot(1, "a/b")
		second := s.watch(key)
		s.asked().is(1, "")
		second.was("a/b=1", "synced")
		first.end()
		session.putAt(1, "a/b", "2")
		second.was("a/b=2")
		third := s.watch(key)
		s.asked().is(1, "")
		third.was("a/b=2", "synced")
		second.end()
		third.end() // and with it the session
		s.watch(ab)
		s.session(ab).snapshot(1, "a/b")
		fourth := s.watch(key)
		s.asked().is(1, "")
		fourth.was("a/b=1", "synced")
	})
}

// A snapshot that begins after a watch came has all that it needs; one that began
// before has not.
func TestWatchJoinsWithALaterSnapshot(t *testing.T) {
	play(t, kv.Options{}, func(s *stage) {
		first := s.watch(a)
		session := s.session(a)
		session.put("a/a", "1")
		second := s.watch(a)
		s.asked() // and never answered
		session.synced(1)
		first.was("a/a=1", "synced")
		second.was()
		session.emit(driver.Event{Type: driver.Restart})
		session.put("a/b", "1")
		second.was()
		session.synced(2)
		first.was("a/b=1", "deletea/a")
		second.was("a/b=1", "synced")
		third := s.watch(a)
		third.was()
		session.emit(driver.Event{Type: driver.Progress, Position: at{n: 3}})
		third.was()
	})
}

// A session may be in step before it knows where it is.
func TestWatchJoinsASessionWithoutAPosition(t *testing.T) {
	play(t, kv.Options{}, func(s *stage) {
		s.watch(a)
		session := s.session(a)
		session.put("a/a", "1")
		session.emit(driver.Event{Type: driver.Synced})
		second := s.watch(a)
		s.asked().is(1, "")
		second.was()
		session.emit(driver.Event{Type: driver.Progress, Position: at{n: 1}})
		second.was("a/a=1", "synced")
	})
}

// Positions of a snapshot that isn't complete count nothing.
func TestPositionsCountAfterTheSnapshot(t *testing.T) {
	play(t, kv.Options{MinBackoff: time.Second, MaxBackoff: time.Second}, func(s *stage) {
		first := s.watch(a)
		session := s.session(a)
		session.putAt(9, "a/a", "1")
		second := s.watch(a)
		q := s.asked()
		if q.from != nil {
			t.Errorf("asked from %v", q.from)
		}
		q.is(3, "")
		second.was()
		session.synced(3)
		for _, h := range []*heard{first, second} {
			h.was("a/a=1", "synced")
		}
		session.over <- errors.New("gone")
		if session = s.session(a); session.Position != (at{n: 3}) {
			t.Errorf("a session from %v", session.Position)
		}
		session.emit(driver.Event{Type: driver.Resumed, Position: at{n: 3}})
		session.putAt(4, "a/b", "1")
		session.over <- errors.New("gone again") // the first was resumed, and came to 4
		if session = s.session(a); session.Position != (at{n: 4}) {
			t.Errorf("a session from %v", session.Position)
		}
		session.put("a/a", "1") // a snapshot, which breaks off
		session.over <- errors.New("gone again")
		if session = s.session(a); session.Position != nil {
			t.Errorf("a session from %v, after a snapshot that was not complete", session.Position)
		}
		session.snapshot(5, "a/b")
		for _, h := range []*heard{first, second} {
			h.was("gone", "a/b=1", "deletea/a", "synced")
		}
	})
}

// Where the store was found to stand, and the session with it, the next session
// may go on.
func TestPositionAdvancesWithTheStore(t *testing.T) {
	for located, want := range map[at]at{
		{5, "store"}: {5, "store"}, {4, "store"}: {5, ""},
	} {
		play(t, kv.Options{}, func(s *stage) {
			s.watch(a)
			session := s.session(a)
			session.snapshot(5, "a/a")
			s.watch(a)
			s.asked().is(located.n, located.name)
			synctest.Wait()
			session.over <- errors.New("gone")
			if session = s.session(a); session.Position != want {
				t.Errorf("a session from %v, want %v", session.Position, want)
			}
		})
	}
}

// Who waits is told that the store is away, and so is who comes then.
func TestWatchJoinsDuringAnOutage(t *testing.T) {
	play(t, kv.Options{}, func(s *stage) {
		first := s.watch(a)
		session := s.session(a)
		session.snapshot(1, "a/a")
		second := s.watch(a)
		q := s.asked()
		session.over <- errors.New("gone")
		second.was("gone")
		third := s.watch(a)
		third.was("gone")
		session = s.session(a)
		first.was("a/a=1", "synced", "gone")
		fourth := s.watch(a)
		fourth.was("gone")
		q.answer <- errors.New("it doesn't answer")
		s.asked().is(1, "")
		synctest.Wait()
		fourth.was() // not in step
		session.emit(driver.Event{Type: driver.Resumed})
		session.synced(1)
		for _, h := range []*heard{second, third, fourth} {
			h.was("a/a=1", "synced")
		}
		first.was("synced")
		s.unasked()
	})
}

// When the widest watch ends, those within it get sessions of their own, and so
// do those who come later.
func TestWatchesThatAreLeftBehind(t *testing.T) {
	play(t, kv.Options{}, func(s *stage) {
		wide, sameWide := s.watch(a), s.watch(a)
		wideSession := s.session(a)
		wideSession.snapshot(1, "a/a", "a/b")
		s.asked().is(1, "")
		within := s.watch(ab)
		s.asked().is(1, "")
		waits := s.watch(key)
		s.asked() // and never answered
		within.was("a/b=1", "synced")
		wide.end()
		s.unasked()
		sameWide.was("a/a=1", "a/b=1", "synced")
		wideSession.putAt(2, "a/b", "2")
		within.was("a/b=2")
		sameWide.end() // one that was fed: nobody wants "a/a" any more
		narrow := s.session(ab)
		if wideSession.ctx.Err() == nil {
			t.Error("the wide session goes on")
		}
		narrow.put("a/b", "2")
		narrow.synced(2)
		within.was()
		s.session(key).snapshot(2, "a/b")
		waits.was("a/b=1", "synced")
	})
}

// A store that says that it can't be located has a session for each watch, and
// isn't asked again.
func TestWatchesOfAStoreThatCannotBeLocated(t *testing.T) {
	play(t, kv.Options{}, func(s *stage) {
		first := s.watch(a)
		session := s.session(a)
		session.snapshot(1, "a/a")
		second := s.watch(a)
		s.asked().answer <- fmt.Errorf("%w: too old", driver.ErrNotSupported)
		s.session(a).snapshot(1, "a/a")
		second.was("a/a=1", "synced")
		third := s.watch(a)
		s.session(a).snapshot(1, "a/a")
		third.was("a/a=1", "synced")
		s.unasked()
		if session.put("a/a", "2"); session.ctx.Err() != nil {
			t.Error("the first session ended")
		}
		first.was("a/a=1", "synced", "a/a=2")
	})
}

// What is kept for those who come later is bounded to the byte, over all sessions.
func TestWatchesShareNoMoreThanIsKept(t *testing.T) {
	const kept = 16 // four keys of three bytes with values of one
	play(t, kv.Options{ShareBytes: kept}, func(s *stage) {
		first := s.watch(a)
		session := s.session(a)
		session.snapshot(1, "a/a", "a/b", "a/c", "a/d")
		for range 3 {
			session.putAt(2, "a/a", "2") // in place of the other
		}
		session.emit(driver.Event{Type: driver.Delete, Entry: driver.Entry{Key: "a/d"}, Position: at{n: 3}})
		session.putAt(4, "a/e", "1")
		session.emit(driver.Event{Type: driver.Restart})
		session.snapshot(5, "a/a", "a/b", "a/c")
		session.putAt(6, "a/f", "1")
		second := s.watch(a)
		s.asked().is(6, "")
		second.was("a/a=1", "a/b=1", "a/c=1", "a/f=1", "synced")

		b := kv.PrefixRange("b")
		other := s.watch(b)
		s.session(b).snapshot(1, "b") // a byte more than there is room for
		late := s.watch(b)
		s.session(b).snapshot(1, "b")
		late.was("b=1", "synced")
		other.was("b=1", "synced")

		third := s.watch(a)
		q := s.asked()
		session.putAt(7, "a/f", "12")
		q.is(7, "")
		s.session(a).snapshot(7, "a/a", "a/f")
		third.was("a/a=1", "a/f=1", "synced") // by a session of its own, which others may join
		fourth := s.watch(kv.KeyRange("a/f"))
		s.asked().is(7, "")
		fourth.was("a/f=1", "synced")
		second.end()
		first.end()
		if session.ctx.Err() == nil {
			t.Error("a session without watches goes on")
		}
	})
}

// What a session held is given back when it ends.
func TestWatchesShareAgainAfterOthersEnded(t *testing.T) {
	play(t, kv.Options{ShareBytes: 8}, func(s *stage) {
		for range 3 {
			first := s.watch(a)
			s.session(a).snapshot(1, "a/a", "a/b")
			second := s.watch(a)
			s.asked().is(1, "")
			second.was("a/a=1", "a/b=1", "synced")
			second.end()
			first.end()
		}
	})
}
