package memberlist

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// part is one entry of a Map, or its tombstone. It doesn't change once it is
// in a store.
type part[V any] struct {
	key     string
	value   V
	version state.Version   // zero until the store has carried out the write
	over    []state.Version // what it removed or overwrote here; not changed in place
	deleted bool
	encoded atomic.Pointer[[]byte] // of value; made when first wanted
	sum     state.Digest           // of a part with a version; zero: not computed yet
}

// encode returns the encoded value.
func (p *part[V]) encode(c codec.Codec) ([]byte, error) {
	if b := p.encoded.Load(); b != nil {
		return *b, nil
	}
	b, err := c.Encode(p.value)
	if err == nil {
		p.encoded.Store(&b)
	}
	return b, err
}

// stamp gives p, which is in no store yet, its version.
func (p *part[V]) stamp(v state.Version) {
	p.version = v
	if !p.deleted { // the writer has nothing older any more
		p.over = slices.DeleteFunc(p.over, func(o state.Version) bool { return o.Instance == v.Instance })
	}
	p.sum = p.hash()
}

// digest is what p adds to that of its map. It is wanted each time the part
// comes to a map and when it goes, so it is computed once.
func (p *part[V]) digest() state.Digest {
	if !p.sum.IsZero() {
		return p.sum
	}
	return p.hash()
}

func (p *part[V]) hash() state.Digest {
	b := state.AppendBool(make([]byte, 0, 128), p.deleted)
	return state.HashOf(append(p.version.Append(b), p.key...))
}

// beats reports whether p wins over q, which may be nil, in a merge. Two parts
// of a key with one version are the same write: no node gives a version twice,
// and no two nodes have the same random instance.
func (p *part[V]) beats(q *part[V]) bool {
	switch {
	case q == nil:
		return true
	case p.version != q.version:
		return p.version.After(q.version)
	}
	return p.deleted && !q.deleted
}

// put makes p the part of its key.
func (m *Map[K, V]) put(p *part[V]) { m.replace(m.part(p.key), p) }

// replace puts p in the place of old, the part of its key; nil: there is none.
func (m *Map[K, V]) replace(old, p *part[V]) {
	if over := p.replaces(old); len(over) > len(p.over) { // it may be another map's too
		encoded := p.encoded.Load()
		p = &part[V]{key: p.key, value: p.value, version: p.version, over: over, deleted: p.deleted, sum: p.sum}
		p.encoded.Store(encoded)
	}
	m.subtract(old)
	m.add(p)
	m.tree = m.root().Set(p.key, p)
}

// replaces returns what p stands for once it is in the place of old, which may be
// nil. Of each writer the newest is enough, since a writer itself has no older one.
func (p *part[V]) replaces(old *part[V]) []state.Version {
	if old == nil || len(old.over) == 0 && (old.deleted || old.version.Instance == p.version.Instance && !p.deleted) {
		return p.over
	}
	var few, all [17]state.Version // as many as there may be
	over, gone := append(few[:0], p.over...), append(append(all[:0], old.version), old.over...)
	if old.deleted || old.version.IsZero() {
		gone = gone[1:]
	}
	for _, v := range gone {
		if !slices.ContainsFunc(over, func(o state.Version) bool { return o.Instance == v.Instance && !v.After(o) }) {
			over = append(over, v)
		}
	}
	return slices.Clone(over[:min(len(over), 8)]) // so many writers are remembered at most
}

// Removed implements [Causal].
func (m *Map[K, V]) Removed(limit time.Time) (versions []Version) {
	all := limit.IsZero()
	if !all && (m.dead == 0 || !m.oldest.Time().Before(limit)) {
		return nil
	}
	for p := range m.parts() {
		if all || p.deleted && p.version.Time().Before(limit) {
			versions = append(versions, p.over...)
		}
	}
	return versions
}

// take removes p, which is a part of m.
func (m *Map[K, V]) take(p *part[V]) {
	m.subtract(p)
	m.tree = m.root().Delete(p.key)
}

// add counts p in.
func (m *Map[K, V]) add(p *part[V]) {
	m.digest = m.digest.Add(p.digest())
	if p.version.After(m.newest) {
		m.newest = p.version
	}
	if p.deleted {
		if m.dead == 0 {
			m.oldest = state.Version{}
		}
		m.dead++
		if !p.version.IsZero() {
			m.noteTombstone(p.version)
		}
	}
}

// subtract counts p, which may be nil, out.
func (m *Map[K, V]) subtract(p *part[V]) {
	if p == nil {
		return
	}
	m.digest = m.digest.Sub(p.digest())
	if p.deleted {
		m.dead--
	}
}

// Without implements [Causal].
func (m *Map[K, V]) Without(known Mergeable, seen func(Version) bool) (remains Mergeable, left int) {
	other, ok := known.(*Map[K, V])
	if known != nil && !ok || m.tree == nil {
		return m, m.root().Len()
	}
	rest := m
	for p := range m.parts() {
		if !seen(p.version) || other != nil && other.part(p.key) != nil {
			continue
		}
		if rest == m {
			rest, _ = m.Clone().(*Map[K, V])
		}
		rest.take(p)
	}
	if rest != m {
		rest.recount()
	}
	return rest, rest.tree.Len()
}
