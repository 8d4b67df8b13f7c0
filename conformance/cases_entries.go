package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polykv/polykv/kv"
)

func entriesCases() []testCase {
	return []testCase{
		{"Entries", "complete", "Entries yields every key with its value, sorted, page by page", needOptions, entriesComplete},
		{"Entries", "current", "Entries reads linearizably, with the versions that Versioned shows", needEntries | needVersioned, entriesCurrent},
		{"Entries", "undecodable", "a value that can't be decoded yields its key with an error, and the rest follows", 0, entriesUndecodable},
		{"Entries", "compacted", "Entries goes on when the store forgets the moment of its first page", needEntries | needOptions | needCompact, entriesCompacted},
		{"Entries", "left", "a loop that is left early ends the reading; an ended ctx is told", 0, entriesLeft},
	}
}

func entriesComplete(t *trial) {
	writer := t.open()
	keys := t.fill(writer, "p/", 40)
	t.put(writer, "p", "outside")
	t.put(writer, "q", "outside")
	for _, page := range []int{0, 1, 7, 40, 41} {
		c := t.open(func(o *kv.Options) { o.ScanPage = page })
		var got []string
		for entry, err := range kv.Entries(t.ctx(), c, "p/") {
			t.ok(err, "Entries")
			if entry.Value != entry.Key {
				t.Fatalf("Entries yields %s for %q", show(entry.Value), entry.Key)
			}
			got = append(got, entry.Key)
		}
		if !slices.Equal(got, keys) {
			t.Fatalf("Entries in pages of %d yields %q, want %q", page, got, keys)
		}
	}
	for entry, err := range kv.Entries(t.ctx(), writer, "nothing/") {
		t.Fatalf("Entries of a prefix without keys yields %v, %v", entry, err)
	}
}

func entriesCurrent(t *trial) {
	a, b := t.open(), t.open()
	versions, err := kv.Versioned(a)
	t.ok(err, "Versioned")
	for i := range 10 {
		value := fmt.Sprintf("value %d", i)
		t.put(a, "k", value)
		n := 0
		for entry, err := range kv.Entries(t.ctx(), b, "") {
			t.ok(err, "Entries")
			_, version, err := versions.GetVersion(t.ctx(), "k")
			t.ok(err, "GetVersion")
			if n++; entry.Value != value || entry.Version != version {
				t.Fatalf("Entries yields %s at version %d, want %q at %d", show(entry.Value), entry.Version, value, version)
			}
		}
		if n != 1 {
			t.Fatalf("Entries yields %d entries, want 1", n)
		}
	}
}

func entriesUndecodable(t *trial) {
	c, writer := t.openWith(picky{}), t.open()
	t.put(writer, "a", "fine")
	t.put(writer, "b", "?garbage")
	t.put(writer, "c", "fine")
	var got []string
	for entry, err := range kv.Entries(t.ctx(), c, "") {
		switch {
		case entry.Key == "b":
			t.wantErr(err, "Entries of a value that can't be decoded", errPicky)
			if !strings.Contains(err.Error(), "b") {
				t.Fatalf("the error %q does not name the key", err)
			}
		case err != nil:
			t.Fatalf("Entries yields %v for %q", err, entry.Key)
		}
		got = append(got, entry.Key)
	}
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("Entries yields %q", got)
	}
}

func entriesCompacted(t *trial) {
	c, writer := t.open(func(o *kv.Options) { o.ScanPage = 3 }), t.open()
	keys := t.fill(writer, "p/", 20)
	var got []string
	for entry, err := range kv.Entries(t.ctx(), c, "p/") {
		t.ok(err, "Entries")
		if got = append(got, entry.Key); len(got)%5 == 1 {
			t.put(writer, "other", entry.Key)
			t.disrupt("Compact", t.store.Compact)
		}
	}
	if !slices.Equal(got, keys) {
		t.Fatalf("Entries amid compactions yields %q, want %q", got, keys)
	}
}

func entriesLeft(t *trial) {
	c := t.open()
	t.fill(c, "p/", 10)
	n := 0
	for _, err := range kv.Entries(t.ctx(), c, "p/") {
		t.ok(err, "Entries")
		if n++; n == 3 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.ctx())
	cancel()
	var last error
	for _, err := range kv.Entries(ctx, c, "p/") {
		if last != nil {
			t.Fatalf("Entries yields more after %v", last)
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Fatalf("Entries with a cancelled ctx ends with %v", last)
	}
}
