package feed

import (
	"sync"
	"sync/atomic"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/polykv/polykv/kv/driver"
)

// registry finds the watches that a change concerns, at a cost that depends on
// them alone: a key's watches are found by its name, those of prefixes by
// walking the watched prefixes of the key.
type registry struct {
	size atomic.Int64 // number of watches; raised only under the owner's lock

	mu       sync.Mutex
	keys     map[string]*topic
	prefixes *iradix.Tree[*topic] // nil: none yet
}

// topic is the watches of one range.
type topic struct {
	watches []*watch
}

// appendTo appends the watches of key to dst.
func (g *registry) appendTo(dst []*watch, key string) []*watch {
	if g.size.Load() == 0 {
		return dst
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.keys[key]; t != nil {
		dst = append(dst, t.watches...)
	}
	if g.prefixes != nil && g.prefixes.Len() > 0 {
		g.prefixes.Root().WalkPath([]byte(key), func(_ []byte, t *topic) bool {
			dst = append(dst, t.watches...)
			return false
		})
	}
	return dst
}

// add registers w.
func (g *registry) add(w *watch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.topic(w.rng)
	if t == nil {
		t = g.newTopic(w.rng)
	}
	w.pos = len(t.watches)
	t.watches = append(t.watches, w)
	g.size.Add(1)
}

// remove undoes add.
func (g *registry) remove(w *watch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.topic(w.rng)
	last := len(t.watches) - 1
	moved := t.watches[last]
	t.watches[w.pos] = moved
	moved.pos = w.pos
	t.watches[last] = nil
	t.watches = t.watches[:last]
	if last == 0 {
		g.dropTopic(w.rng)
	}
	g.size.Add(-1)
}

func (g *registry) topic(r driver.Range) *topic {
	if !r.IsPrefix {
		return g.keys[r.Key]
	}
	if g.prefixes == nil {
		return nil
	}
	t, _ := g.prefixes.Get([]byte(r.Key))
	return t
}

func (g *registry) newTopic(r driver.Range) *topic {
	t := &topic{}
	if !r.IsPrefix {
		if g.keys == nil {
			g.keys = map[string]*topic{}
		}
		g.keys[r.Key] = t
		return t
	}
	if g.prefixes == nil {
		g.prefixes = iradix.New[*topic]()
	}
	g.prefixes, _, _ = g.prefixes.Insert([]byte(r.Key), t)
	return t
}

func (g *registry) dropTopic(r driver.Range) {
	if r.IsPrefix {
		g.prefixes, _, _ = g.prefixes.Delete([]byte(r.Key))
	} else {
		delete(g.keys, r.Key)
	}
}
