package inmemory

import (
	"iter"
	"slices"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/polykv/polykv/kv/driver"
)

// maxPage bounds the entries of a page, and with it the time that a page takes
// (well below a millisecond) and its memory.
const maxPage = 4096

// snapshot is the store at one moment. It needs no release.
type snapshot struct {
	store *Store
	tree  *iradix.Tree[*cell]
}

// snapshot returns the store as it is now.
func (s *Store) snapshot() *snapshot {
	if snap := s.snap.Load(); snap != nil {
		return snap // no write came after it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshotLocked()
}

// snapshotLocked is snapshot for a caller that holds s.mu.
func (s *Store) snapshotLocked() *snapshot {
	snap := s.snap.Load()
	if snap == nil {
		snap = &snapshot{store: s, tree: s.tree.Load()}
		s.epoch++
		s.snap.Store(snap)
	}
	return snap
}

// from returns an iterator over the keys that have prefix and are greater than
// after, if after isn't empty. It goes on beyond the prefix.
func (sn *snapshot) from(prefix, after string) *iradix.Iterator[*cell] {
	it := sn.tree.Root().Iterator()
	it.SeekLowerBound([]byte(max(prefix, after)))
	return it
}

// keys returns the keys that begin with prefix. The tree alone is a snapshot of
// them: what changes in place is values.
func (s *Store) keys(prefix string) []string {
	var first [256]string // so that few keys are allocated once and in their size
	keys := first[:0]
	tree := s.tree.Load()
	tree.Root().WalkPrefix([]byte(prefix), func(_ []byte, c *cell) bool {
		if len(keys) == cap(keys) {
			keys = append(make([]string, 0, grown(len(keys), tree.Len())), keys...)
		}
		keys = append(keys, c.key)
		return false
	})
	if len(keys) <= len(first) {
		return slices.Clone(keys)
	}
	return keys
}

// grown returns how many keys or entries a listing that has so many of at
// most so many others makes room for.
func grown(has, limit int) int { return min(limit, max(1024, 4*has)) }

// page returns one page of a listing.
func (sn *snapshot) page(req *driver.ScanRequest) driver.Page {
	limit := maxPage
	if req.Limit > 0 {
		limit = min(limit, req.Limit)
	}
	p := driver.Page{Snapshot: sn}
	it := sn.from(req.Prefix, req.After)

	// Cells wait in a small buffer, so that a short page is allocated once and
	// in its size.
	var buf [256]*cell
	n := 0
	for {
		_, c, ok := it.Next()
		if !ok || !strings.HasPrefix(c.key, req.Prefix) {
			break
		}
		if req.After != "" && c.key <= req.After {
			continue
		}
		if len(p.Entries)+n == limit {
			p.More = true
			break
		}
		if n == len(buf) {
			room := grown(len(p.Entries), min(limit, sn.tree.Len()))
			p.Entries = appendCells(p.Entries, buf[:], room, req.KeysOnly)
			n = 0
		}
		buf[n] = c
		n++
	}
	p.Entries = appendCells(p.Entries, buf[:n], len(p.Entries)+n, req.KeysOnly)
	return p
}

// appendCells appends the entries of cells to es, which gets room for so many
// if it has to grow.
func appendCells(es []driver.Entry, cells []*cell, room int, keysOnly bool) []driver.Entry {
	if need := len(es) + len(cells); need > cap(es) {
		es = append(make([]driver.Entry, 0, max(room, need)), es...)
	}
	for _, c := range cells {
		e := c.rec.Load().entry(c.key)
		if keysOnly {
			e.Value = nil
		}
		es = append(es, e)
	}
	return es
}

// subscriber returns what registers a watch of r and returns the entries that
// it begins with.
func (s *Store) subscriber(r driver.Range) func(register func()) iter.Seq[driver.Entry] {
	return func(register func()) iter.Seq[driver.Entry] {
		s.mu.Lock()
		defer s.mu.Unlock()
		register()
		if r.IsPrefix {
			return s.snapshotLocked().entries(r.Key)
		}
		rec := s.read(r.Key)
		return func(yield func(driver.Entry) bool) {
			if rec != nil {
				yield(rec.entry(r.Key))
			}
		}
	}
}

// entries iterates over the entries under prefix.
func (sn *snapshot) entries(prefix string) iter.Seq[driver.Entry] {
	return func(yield func(driver.Entry) bool) {
		it := sn.from(prefix, "")
		for {
			_, c, ok := it.Next()
			if !ok || !strings.HasPrefix(c.key, prefix) || !yield(c.rec.Load().entry(c.key)) {
				return
			}
		}
	}
}
