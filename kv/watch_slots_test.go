package kv

import (
	"fmt"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

// A key that was deleted, and told so, leaves nothing in the table (W2).
func TestDeletedKeysLeaveTheTable(t *testing.T) {
	table := newWatchTable(func(string) bool { return true }, func(s stored) digest { return digestOf(s.bytes) })
	table.begin()
	table.emit(driver.Event{Type: driver.Synced})
	drain := func() (n int) {
		for _, ok := table.next(); ok; _, ok = table.next() {
			n++
		}
		return n
	}
	drain()
	for i := range 100 {
		key := fmt.Sprintf("k%d", i)
		table.emit(driver.Event{Type: driver.Put, Entry: driver.Entry{Key: key, Value: []byte("v"), Version: 1}})
		if i%2 == 0 {
			drain()
		}
		table.emit(driver.Event{Type: driver.Delete, Entry: driver.Entry{Key: key}})
		if i%3 == 0 {
			drain()
		}
	}
	drain()
	if len(table.slots) != 0 || table.news.Len() != 0 {
		t.Errorf("the table keeps %d keys and %d news of keys that are gone", len(table.slots), table.news.Len())
	}
}

// Who is told in the order of versions is told every key of a snapshot before
// Synced, though it was changed meanwhile, and versions still in their order.
func TestSyncedComesAfterEveryKey(t *testing.T) {
	put := func(key string, version Version) driver.Event {
		return driver.Event{Type: driver.Put, Entry: driver.Entry{Key: key, Value: fmt.Append(nil, key, version), Version: version}}
	}
	synced, restart := driver.Event{Type: driver.Synced}, driver.Event{Type: driver.Restart}
	for what, c := range map[string]struct {
		events []driver.Event
		want   string
	}{
		"changed":        {[]driver.Event{put("hot", 1), put("k", 2), synced, put("k", 3), put("hot", 4)}, "put hot 0, put k 0, synced, rewritten hot 4, rewritten k 3, "},
		"changed twice":  {[]driver.Event{put("hot", 1), synced, put("hot", 2), put("hot", 3)}, "put hot 0, synced, rewritten hot 3, "},
		"another":        {[]driver.Event{put("hot", 1), synced, put("k", 2), put("hot", 3), put("k", 4)}, "put hot 0, synced, put k 4, rewritten hot 3, "},
		"read again":     {[]driver.Event{put("hot", 1), put("k", 2), synced, restart, put("hot", 3), put("k", 2), synced}, "put k 2, put hot 3, synced, "},
		"read and moved": {[]driver.Event{put("hot", 1), synced, put("hot", 2), restart, put("hot", 2), put("k", 3), synced, put("k", 4)}, "put hot 2, put k 0, synced, rewritten k 4, "},
		"deleted":        {[]driver.Event{put("hot", 1), put("k", 2), synced, {Type: driver.Delete, Entry: driver.Entry{Key: "hot"}}, put("hot", 3)}, "put k 2, synced, put hot 3, "},
	} {
		table := newWatchTable(func(string) bool { return true }, func(s stored) digest { return digestOf(s.bytes) })
		table.byVersion = true
		table.begin()
		for _, ev := range c.events {
			table.emit(ev)
		}
		got := ""
		for p, ok := table.next(); ok; p, ok = table.next() {
			if got += p.event.Type.String(); p.event.Type != Synced {
				got += fmt.Sprintf(" %s %d", p.event.Key, p.event.Version)
			}
			got += ", "
		}
		if got != c.want {
			t.Errorf("%s: told %s\nwant %s", what, got, c.want)
		}
	}
}
