package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
)

// skippedKeys is an observer that counts the keys that a store has and polykv
// leaves out, because they break its rules for keys.
type skippedKeys struct {
	kv.NopObserver

	mu   sync.Mutex
	seen map[string]struct{}
	more bool // than are counted
	one  string
}

// maxSkipped bounds what is kept to count each key once.
const maxSkipped = 100_000

// Skipped implements kv.Observer.
func (s *skippedKeys) Skipped(_ context.Context, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen, s.one = map[string]struct{}{}, key
	}
	if _, known := s.seen[key]; !known && len(s.seen) == maxSkipped {
		s.more = true
		return
	}
	s.seen[key] = struct{}{}
}

// take returns what was counted and begins anew.
func (s *skippedKeys) take() (count, example string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.seen)
	count, example = fmt.Sprint(n, " keys of the store are"), s.one
	switch {
	case n == 0:
		count = ""
	case s.more:
		count = "more than " + count
	case n == 1:
		count = "1 key of the store is"
	}
	s.seen, s.more, s.one = nil, false, ""
	return count, example
}

// noteSkipped says on stderr what was left out, so that a store never looks
// empty that isn't.
func (a *app) noteSkipped() {
	count, example := a.skipped.take()
	if count == "" {
		return
	}
	fmt.Fprintf(a.stderr, "polykv: note: %s left out, which polykv's rules for keys forbid; one is %q%s\n", count, example, a.rootFor(example))
}

// rootFlag is the flag for the bytes before every key that belong to a store's
// address.
const rootFlag = "etcd.root"

// rootFor returns what to do about a key that begins with "/", for a message;
// nothing if there is nothing to do.
func (a *app) rootFor(key string) string {
	below, ok := strings.CutPrefix(key, "/")
	if !ok || a.config.Backend != "etcd" || a.ownFlags.Lookup(rootFlag) == nil {
		return ""
	}
	root := "/"
	if folder, _, inFolder := strings.Cut(below, "/"); inFolder && folder != "" {
		root += folder + "/"
	}
	return fmt.Sprintf("; with --%s %s the keys below that are shown without it", rootFlag, root)
}

// checkKey checks a key that the user gave.
func (a *app) checkKey(key string) error {
	err := kv.CheckKey(key)
	onEtcd := a.config.Backend == "etcd" || a.config.Backend == "" // which a file may say, that is not read yet
	if err != nil && strings.HasPrefix(key, "/") && onEtcd && a.ownFlags.Lookup(rootFlag) != nil {
		return fmt.Errorf("%w; what keys in etcd begin with goes to --%s, as in --%s /app/ and the key x for /app/x", err, rootFlag, rootFlag)
	}
	return err
}

// hintRoot adds to an error about a prefix "/app/" where such a thing goes.
func (a *app) hintRoot(err error) error {
	var field *factory.FieldError
	if errors.As(err, &field) && field.Field == "prefix" && strings.HasPrefix(a.config.Prefix, "/") {
		if hint := a.rootFor(a.config.Prefix); hint != "" {
			return fmt.Errorf("%w%s", err, hint)
		}
	}
	return err
}
