package memberlist

import (
	"bytes"
	"sync/atomic"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// part is one entry of a Map, or its tombstone. It doesn't change once it is
// in a store.
type part[V any] struct {
	key     string
	value   V
	version state.Version // zero until the store has carried out the write
	deleted bool
	encoded atomic.Pointer[[]byte] // of value; made when first wanted
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

// digest is what p adds to that of its map.
func (p *part[V]) digest() state.Digest {
	b := make([]byte, 0, 128)
	if p.deleted {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return state.HashOf(append(p.version.Append(b), p.key...))
}

// beats reports whether p wins over q, which may be nil, in a merge. Two parts
// with one version are the same write, unless the random instances of two
// nodes were equal; even then all nodes decide alike.
func (p *part[V]) beats(q *part[V]) bool {
	switch {
	case q == nil:
		return true
	case p == q:
		return false
	case p.version != q.version:
		return p.version.After(q.version)
	case p.deleted != q.deleted:
		return p.deleted
	}
	mine, theirs := p.encoded.Load(), q.encoded.Load()
	return mine != nil && theirs != nil && bytes.Compare(*mine, *theirs) > 0
}

// edit is a change of many parts at once.
type edit[K ~string, V any] struct {
	m   *Map[K, V]
	txn *iradix.Txn[*part[V]]
}

func (m *Map[K, V]) edit() *edit[K, V] { return &edit[K, V]{m, m.root().Txn()} }

// put makes p the part of its key.
func (e *edit[K, V]) put(p *part[V]) {
	old, _ := e.txn.Insert([]byte(p.key), p)
	e.m.subtract(old)
	e.m.add(p)
}

// take removes p.
func (e *edit[K, V]) take(p *part[V]) {
	e.txn.Delete([]byte(p.key))
	e.m.subtract(p)
}

func (e *edit[K, V]) commit() { e.m.tree = e.txn.Commit() }

// put is an edit of one part.
func (m *Map[K, V]) put(p *part[V]) {
	tree, old, _ := m.root().Insert([]byte(p.key), p)
	m.tree = tree
	m.subtract(old)
	m.add(p)
}

// take is an edit of one part.
func (m *Map[K, V]) take(p *part[V]) {
	m.tree, _, _ = m.root().Delete([]byte(p.key))
	m.subtract(p)
}

// add counts p in.
func (m *Map[K, V]) add(p *part[V]) {
	m.digest = m.digest.Add(p.digest())
	if p.version.After(m.newest) {
		m.newest = p.version
	}
	if p.deleted {
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
