package state

import (
	"cmp"
	"strings"

	"github.com/benbjohnson/immutable"
)

// Tree is a persistent map in ascending order of keys. A change of one key
// leaves the tree before as it was, and shares nearly all of it.
type Tree[V any] = immutable.SortedMap[string, V]

// NewTree returns an empty Tree.
func NewTree[V any]() *Tree[V] { return immutable.NewSortedMap[string, V](byKey{}) }

// NewTreeBuilder returns what makes a Tree of many keys faster than one by one.
func NewTreeBuilder[V any]() *immutable.SortedMapBuilder[string, V] {
	return immutable.NewSortedMapBuilder[string, V](byKey{})
}

// byKey compares keys. The library's own comparer takes them by an interface,
// for any type of key.
type byKey struct{}

func (byKey) Compare(a, b string) int { return cmp.Compare(a, b) }

// Snapshot is what exists at one moment. It needs no release.
type Snapshot struct{ tree *Tree[*Record] }

// Snapshot returns the store as it is now.
func (s *Store) Snapshot() Snapshot { return Snapshot{s.tree.Load()} }

// Len returns the number of keys.
func (sn Snapshot) Len() int { return sn.tree.Len() }

// From calls f with the records whose keys begin with prefix and are greater
// than after, unless after is empty, in ascending order, until f returns
// false.
func (sn Snapshot) From(prefix, after string, f func(*Record) bool) {
	it := sn.tree.Iterator()
	it.Seek(max(prefix, after))
	for {
		key, r, ok := it.Next()
		if !ok || !strings.HasPrefix(key, prefix) {
			return
		}
		if (after == "" || key > after) && !f(r) {
			return
		}
	}
}
