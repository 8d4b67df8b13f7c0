package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

const (
	// A range is compared at so many keys a second at most, so that what it
	// costs does not grow with the range.
	comparePerKey = 10 * time.Millisecond

	// A change may be on its way for so long.
	compareGrace = time.Minute

	// What differs and can't be explained is read key by key, so many at most.
	compareReads = 100
)

// doubt is a key of which the store and a watch say different things: the
// versions, 0 if it is absent.
type doubt struct{ stored, told Version }

// compare looks, now and then, whether the session has told of all that the
// store has, until nobody is left. A server or a proxy may lose an event, and
// nothing that the session hears later would show it.
func (u *upstream) compare() {
	for {
		longest := max(u.e.opts.CompareWatches, time.Duration(u.following().keys())*comparePerKey)
		if wait.For(u.ctx, longest+rand.N(longest)) != nil { //nolint:gosec // no secret
			return
		}
		w := u.following()
		if key, missed := u.unheard(w); missed {
			u.distrust(w, key)
		}
	}
}

// follower is a watch of an upstream's very range, in step in a session.
type follower struct {
	*downstream
	session uint64
}

func (f follower) keys() int {
	if f.downstream == nil {
		return 0
	}
	return f.table.keys()
}

// following returns a watch that should have been told of all; none if the
// session is not in step.
func (u *upstream) following() (f follower) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.inStep {
		return f
	}
	for d := range u.everybody {
		if d.rng == u.rng {
			return follower{d, u.session}
		}
	}
	return f
}

// unheard returns a key of whose state f was not told. What differs may be on its
// way, or have been written during the listing. So it counts only if the store
// says the same of it a while later, and f as well.
func (u *upstream) unheard(f follower) (key string, missed bool) {
	if f.downstream == nil {
		return "", false
	}
	stored, err := u.e.versions(u.ctx, u.rng)
	if err != nil {
		return "", false // the next time, then
	}
	doubts := f.table.differing(stored)
	if len(doubts) == 0 || wait.For(u.ctx, compareGrace) != nil {
		return "", false
	}
	reads := 0
	for key, d := range doubts {
		if f.table.version(key) != d.told {
			continue
		}
		if reads++; reads > compareReads {
			break
		}
		now, err := u.e.readOne(u.ctx, driver.GetRequest{Key: key})
		if err != nil {
			return "", false
		}
		if now.Version == d.stored && f.table.version(key) == d.told {
			return key, true
		}
	}
	return "", false
}

// distrust ends f's session, unless it is over already, and has the next one read
// the range anew: the position of one that missed something is worth nothing.
func (u *upstream) distrust(f follower, key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f.fed && u.inStep && u.session == f.session {
		u.missed = true
		u.end(fmt.Errorf("%w: of the key %q", ErrMissed, key))
	}
}

// versions returns the version of each key of a range.
func (e *engine) versions(ctx context.Context, r Range) (map[string]Version, error) {
	all := map[string]Version{}
	if !r.IsPrefix {
		entry, err := e.readOne(ctx, driver.GetRequest{Key: r.Key})
		if entry.Exists() {
			all[r.Key] = entry.Version
		}
		return all, err
	}
	for page, err := range e.pages(ctx, driver.ScanRequest{Prefix: r.Key, KeysOnly: true}) {
		switch {
		case errors.Is(err, driver.ErrSnapshotLost):
			clear(all) // the pages start again
		case err != nil:
			return nil, err
		}
		for _, entry := range page.Entries {
			if !entry.Exists() {
				return nil, ErrNotSupported // its listings have no versions
			}
			all[entry.Key] = entry.Version
		}
	}
	return all, nil
}
