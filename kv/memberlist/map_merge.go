package memberlist

import (
	"fmt"
	"maps"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

var _ interface {
	Mergeable
	Digester
	DeltaSource
	Causal
	Stamped
} = (*Map[string, int])(nil)

// Merge implements [Mergeable]. Of two states of an entry the newer wins.
func (m *Map[K, V]) Merge(other Mergeable, localCAS bool) (Mergeable, error) {
	o, ok := other.(*Map[K, V])
	switch {
	case !ok:
		return nil, fmt.Errorf("can't merge a %T into a %T", other, m)
	case o == nil:
		return nil, fmt.Errorf("can't merge a nil %T", other)
	case localCAS:
		return asMergeable(m.mergeWrite(o)), nil
	}
	return asMergeable(m.mergeReplica(o)), nil
}

// asMergeable keeps a nil Map from becoming a Mergeable that isn't nil.
func asMergeable[K ~string, V any](change *Map[K, V]) Mergeable {
	if change == nil {
		return nil
	}
	return change
}

// mergeReplica takes in the state or change of a replica.
func (m *Map[K, V]) mergeReplica(o *Map[K, V]) (change *Map[K, V]) {
	if o.tree == nil || o.tree == m.tree {
		return nil
	}
	var few [8]*part[V]
	newer := few[:0]
	for p := range o.parts() {
		if old := m.part(p.key); p.beats(old) {
			m.replace(old, p)
			newer = append(newer, p)
		}
	}
	m.settle()
	switch len(newer) {
	case 0:
		return nil
	case o.tree.Len(): // as when o is a change that didn't come before
		return o
	}
	change = NewMap[K, V]()
	for _, p := range newer {
		change.put(p)
	}
	return change
}

// mergeWrite takes in what a CAS callback made of m.
func (m *Map[K, V]) mergeWrite(o *Map[K, V]) *Map[K, V] {
	change := NewMap[K, V]()
	decide := func(key string) {
		if p := written(m.part(key), o.part(key)); p != nil {
			m.put(p)
			change.put(p)
			if p.version.IsZero() {
				m.unstamped, change.unstamped = append(m.unstamped, p), append(change.unstamped, p)
			}
		}
	}
	if o.base != nil && o.base == m.tree {
		for key := range o.touched {
			decide(key)
		}
	} else if o.tree != m.tree {
		for p := range o.parts() {
			decide(p.key)
		}
		for p := range m.parts() {
			if o.part(p.key) == nil {
				decide(p.key)
			}
		}
	}
	m.settle()
	if change.tree == nil {
		return nil
	}
	return change
}

// written returns what becomes of the part old when a CAS leaves next in its
// place; nil if nothing does. Either may be nil.
func written[V any](old, next *part[V]) *part[V] {
	var fresh *part[V]
	switch {
	case next == nil && (old == nil || old.deleted), old == next:
		return nil
	case next == nil:
		fresh = &part[V]{key: old.key, deleted: true}
	case next.version.IsZero():
		// The callback may still hold it, so the store gets its own.
		fresh = &part[V]{key: next.key, value: next.value}
	case old != nil && old.version == next.version && old.deleted == next.deleted:
		return nil
	case next.beats(old):
		return next // from another replica, by way of the callback
	default:
		fresh = &part[V]{key: next.key, value: next.value, deleted: next.deleted} // an older state, set again
	}
	fresh.over = fresh.replaces(old)
	return fresh
}

// settle forgets what was done to the clone that m was.
func (m *Map[K, V]) settle() { m.base, m.touched = nil, nil }

// Stamp implements [Stamped].
func (m *Map[K, V]) Stamp(v Version) {
	parts := m.unstamped
	if m.touched != nil || m.tree != nil && parts == nil {
		parts = m.ownUnstamped()
	}
	for _, p := range parts {
		unstamped := part[V]{key: p.key, deleted: p.deleted}
		m.digest = m.digest.Sub(unstamped.digest())
		p.stamp(v) // of the store's own part, which the change and the state share
		m.digest = m.digest.Add(p.digest())
		if p.deleted {
			m.noteTombstone(v)
		}
	}
	if len(parts) > 0 && v.After(m.newest) {
		m.newest = v
	}
	m.unstamped = nil
	m.settle()
}

// ownUnstamped replaces all parts without a version by the store's own, and
// returns them.
func (m *Map[K, V]) ownUnstamped() (own []*part[V]) {
	for p := range m.parts() {
		if p.version.IsZero() {
			copied := &part[V]{key: p.key, value: p.value, deleted: p.deleted, over: p.over}
			m.put(copied)
			own = append(own, copied)
		}
	}
	return own
}

// recount finds the oldest tombstone.
func (m *Map[K, V]) recount() {
	m.oldest = state.Version{}
	for p := range m.parts() {
		if p.deleted {
			m.noteTombstone(p.version)
		}
	}
}

// noteTombstone takes the version of a tombstone into account, unless it has
// none yet.
func (m *Map[K, V]) noteTombstone(v state.Version) {
	if m.oldest.IsZero() || m.oldest.After(v) {
		m.oldest = v
	}
}

// MergeContent implements [Mergeable]: the keys of the entries.
func (m *Map[K, V]) MergeContent() []string {
	keys := make([]string, 0, m.Len())
	for k := range m.All() {
		keys = append(keys, string(k))
	}
	return keys
}

// RemoveTombstones implements [Mergeable].
func (m *Map[K, V]) RemoveTombstones(limit time.Time) (total, removed int) {
	if m.dead == 0 || !limit.IsZero() && !m.oldest.Time().Before(limit) {
		return m.dead, 0
	}
	for p := range m.parts() {
		if p.deleted && (limit.IsZero() || p.version.Time().Before(limit)) {
			m.take(p)
			removed++
		}
	}
	m.recount()
	return m.dead, removed
}

// Clone implements [Mergeable]. It takes the same short time whatever the
// size.
func (m *Map[K, V]) Clone() Mergeable {
	c := *m
	c.touched = maps.Clone(m.touched)
	return &c
}

// Digest implements [Digester].
func (m *Map[K, V]) Digest() Digest { return m.digest }

// DeltaSince implements [DeltaSource].
func (m *Map[K, V]) DeltaSince(v Version) (Mergeable, Digest) {
	delta := NewMap[K, V]()
	for p := range m.parts() {
		if p.version.After(v) {
			delta.put(p)
		}
	}
	return delta, m.digest.Sub(delta.digest)
}

// Newest implements [Stamped]. It may be the version of an entry that is no
// longer there.
func (m *Map[K, V]) Newest() Version { return m.newest }

// Restamp implements [Stamped].
func (m *Map[K, V]) Restamp(limit, v Version) bool {
	m.newest = Version{}
	found := false
	for p := range m.parts() {
		if p.version.After(limit) {
			p = &part[V]{key: p.key, value: p.value, deleted: p.deleted, over: p.over}
			p.stamp(v)
			m.put(p)
			found = true
		}
		if p.version.After(m.newest) {
			m.newest = p.version
		}
	}
	if found && m.dead > 0 {
		m.recount()
	}
	return found
}
