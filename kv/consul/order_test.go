package consul

import (
	"fmt"
	"slices"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

// What one answer tells of several keys comes in the order in which they were
// written, then what is gone, and with the last of it the position.
func TestChangesComeInTheStoresOrder(t *testing.T) {
	entries := func(all ...driver.Entry) listing {
		return listing{entries: all, index: 9, gen: 1}
	}
	var got []string
	var positions []driver.Position
	w := session{store: &store{}, last: entries(
		driver.Entry{Key: "a", Version: 1}, driver.Entry{Key: "gone", Version: 3}, driver.Entry{Key: "same", Version: 4},
	)}
	w.emit = func(ev driver.Event) {
		got = append(got, fmt.Sprintf("%v %s %d", ev.Type, ev.Entry.Key, ev.Entry.Version))
		positions = append(positions, ev.Position)
	}
	w.diff(entries(
		driver.Entry{Key: "a", Version: 9}, driver.Entry{Key: "b", Version: 7}, driver.Entry{Key: "c", Version: 8}, driver.Entry{Key: "same", Version: 4},
	))
	if want := []string{"put b 7", "put c 8", "put a 9", "delete gone 0"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	last := len(positions) - 1
	for i, at := range positions {
		if (at != nil) != (i == last) {
			t.Errorf("event %d is at %v", i, at)
		}
	}
}
