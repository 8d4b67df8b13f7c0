package state

import (
	"github.com/polykv/polykv/kv/driver"
)

// Swap puts an object that a View made, or nothing if object is nil, in the
// place of the state of key that prev names; 0 means absent. It returns the
// new state's entry, or, with ok false, the one that is there instead.
func (s *Store) Swap(key string, prev driver.Version, object any) (now driver.Entry, ok bool, err error) {
	var next *Record
	if object != nil {
		var isRecord bool
		if next, isRecord = object.(*Record); !isRecord || next.key != key {
			return driver.Entry{}, false, driver.Permanent(errObject)
		}
	}
	sh := s.shard(key)
	sh.mu.Lock()
	now, ok = s.swap(sh, key, prev, next)
	sh.mu.Unlock()
	if ok {
		s.deliver(sh)
	}
	return now, ok, nil
}

// swap is Swap in a locked shard.
func (s *Store) swap(sh *shard, key string, prev driver.Version, next *Record) (driver.Entry, bool) {
	cur := sh.records[key]
	var seq driver.Version
	if cur.live() {
		seq = cur.seq
	}
	if seq != prev {
		return cur.entry(key), false
	}
	if next == cur || next == nil && !cur.live() { // what is written changes nothing
		return cur.entry(key), true
	}
	if next == nil {
		next = &Record{key: key, codec: cur.codec, e: s.clock.next(cur.newest())}
		s.publish(sh, cur, next)
		sh.outbox = append(sh.outbox, Update{Key: key, Codec: next.codec.id, E: next.e})
		return driver.Entry{Key: key}, true
	}
	var deletion Version
	if cur != nil {
		deletion = cur.e
	}
	written := next.v
	if written.IsZero() {
		written = next.e
	}
	if s.clock.isClaimed(written) {
		return cur.entry(key), false // it took so long that the others count on it not to exist
	}
	if st := next.staged; st == nil || st.onto != prev || st.after != deletion {
		return cur.entry(key), false // made from another state, be it of the same absent key
	}
	u := Update{Key: key, Codec: next.codec.id, E: next.e, V: next.v, Value: next.bytes}
	if next.merge != nil {
		u.Value, u.Partial = next.staged.encoded, true
	}
	s.publish(sh, cur, next)
	sh.outbox = append(sh.outbox, u)
	return next.entry(key), true
}

// deliver tells OnLocal of what was written. When it returns, OnLocal has been
// told of everything that was in the outbox before: by whom doesn't matter.
func (s *Store) deliver(sh *shard) {
	sh.delivered.Lock()
	defer sh.delivered.Unlock()
	sh.mu.Lock()
	updates := sh.outbox
	sh.outbox = nil
	sh.mu.Unlock()
	if s.onLocal == nil {
		return
	}
	for _, u := range updates {
		s.onLocal(u)
	}
}

// tombstone returns the tombstone of a key, nil if there is none.
func (s *Store) tombstone(key string) *Record {
	sh := s.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if r := sh.records[key]; r != nil && !r.live() {
		return r
	}
	return nil
}
