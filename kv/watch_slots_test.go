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
