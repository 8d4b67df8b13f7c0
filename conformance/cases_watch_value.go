package conformance

import (
	"context"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

func watchValueCases() []testCase {
	return []testCase{
		{"W7", "goes-on", "a value that can't be decoded is skipped, and the next one is delivered", 0, watchSkipsUndecodable},
		{"W7", "in-snapshot", "one that is there at the start is skipped, and the other keys are delivered", 0, watchSkipsInSnapshot},
		{"W7", "deleted", "a deletion after one is told only if a value was delivered before", 0, undecodableThenDeleted},
		{"W7", "counted", "one is reported to the Observer", needOptions, undecodableCounted},
		{"W7", "decodes-to-nil", "a value that decodes to nil is no deletion", 0, nilValueIsNoDeletion},
	}
}

func watchSkipsUndecodable(t *trial) {
	c, writer := t.openWith(picky{}), t.open()
	watches := []*watcher{t.watchKey(c, "k"), t.watchPrefix(c, "")}
	t.put(writer, "k", "v1")
	for _, w := range watches {
		w.untilIs("k", "v1")
	}
	t.put(writer, "k", "?garbage")
	t.put(writer, "l", "marker")
	watches[1].untilIs("l", "marker")
	t.put(writer, "k", "v2")
	for _, w := range watches {
		w.untilIs("k", "v2")
		w.wantExactly("k", "v1", "v2")
	}
}

func watchSkipsInSnapshot(t *trial) {
	c, writer := t.openWith(picky{}), t.open()
	t.put(writer, "a", "?garbage")
	t.put(writer, "b", "fine")
	t.put(writer, "c", "?garbage")
	w, key := t.watchPrefix(c, ""), t.watchKey(c, "a")
	w.untilIs("b", "fine")
	t.put(writer, "a", "fine now")
	w.untilIs("a", "fine now")
	key.untilIs("a", "fine now")
	w.wantExactly("a", "fine now")
	w.wantExactly("c")
}

func undecodableThenDeleted(t *trial) {
	c, writer := t.openWith(picky{}), t.open()
	t.put(writer, "delivered", "v")
	t.put(writer, "never", "?garbage")
	w := t.watchPrefix(c, "")
	w.untilIs("delivered", "v")
	t.put(writer, "delivered", "?garbage")
	t.delete(writer, "delivered")
	t.delete(writer, "never")
	w.untilGone("delivered")
	t.put(writer, "zz", "marker")
	w.untilIs("zz", "marker")
	w.wantExactly("never")
	wantNoStrayDeletes(t, w)
}

// watchCounter counts the events of watches by kind.
type watchCounter struct {
	kv.NopObserver
	mu    sync.Mutex
	kinds map[string]int
}

func (c *watchCounter) WatchEvent(_ context.Context, _, kind string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds == nil {
		c.kinds = map[string]int{}
	}
	c.kinds[kind]++
}

func (c *watchCounter) of(kind string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kinds[kind]
}

func undecodableCounted(t *trial) {
	var events watchCounter
	c, writer := t.openWith(picky{}, func(o *kv.Options) { o.Observer = &events }), t.open()
	w := t.watchPrefix(c, "")
	t.put(writer, "k", "?garbage")
	t.eventually("the Observer is told of a value that can't be decoded", func() bool { return events.of("undecodable") > 0 })
	t.put(writer, "k", "fine")
	w.untilIs("k", "fine")
	t.eventually("the Observer is told of a put", func() bool { return events.of("put") > 0 })
}

func nilValueIsNoDeletion(t *trial) {
	c, writer := t.openWith(picky{}), t.open()
	w := t.watchKey(c, "k")
	t.put(writer, "k", "v1")
	w.untilIs("k", "v1")
	t.put(writer, "k", "~nil")
	t.watchKey(writer, "k").untilIs("k", "~nil")
	t.put(writer, "l", "marker")
	t.watchKey(c, "l").untilIs("l", "marker")
	t.letOthersRun()
	t.put(writer, "k", "v2")
	w.untilIs("k", "v2")
	w.wantExactly("k", "v1", "v2")
}
