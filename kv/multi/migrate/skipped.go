package migrate

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/polykv/polykv/kv"
)

// maxSkipped is how many keys Skipped remembers by name.
const maxSkipped = 100

// Skipped is an observer that counts keys of a store that break rule K1 of
// kv.Client: they were put there by another tool, polykv never shows them, and
// no migration copies them. Give one to a client as its Observer and to its
// Backend. The zero value is ready to use.
type Skipped struct {
	kv.NopObserver

	mu   sync.Mutex
	keys map[string]struct{}
	more bool
}

// Skipped implements kv.Observer.
func (s *Skipped) Skipped(_ context.Context, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[string]struct{}{}
	}
	if _, known := s.keys[key]; !known && len(s.keys) == maxSkipped {
		s.more = true
		return
	}
	s.keys[key] = struct{}{}
}

// Keys returns the keys that were seen, sorted, at most a hundred, and whether
// there were more.
func (s *Skipped) Keys() (keys []string, more bool) {
	if s == nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.keys)), s.more
}
