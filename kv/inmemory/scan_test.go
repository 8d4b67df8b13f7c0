package inmemory

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

func TestScanDefaultPageIsBounded(t *testing.T) {
	s, keys := filled(t, 2*maxPage+1)
	h := s.Open()
	for _, limit := range []int{0, 10 * maxPage, maxPage - 1, 257} {
		var got []string
		for req := (driver.ScanRequest{Limit: limit}); ; {
			p, err := h.Scan(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Entries) > maxPage {
				t.Fatalf("a page of %d entries", len(p.Entries))
			}
			for _, e := range p.Entries {
				got = append(got, e.Key)
			}
			if !p.More {
				break
			}
			req.Snapshot, req.After = p.Snapshot, got[len(got)-1]
		}
		if !slices.Equal(got, keys) {
			t.Fatalf("limit %d: %d keys, want %d", limit, len(got), len(keys))
		}
	}
}

func TestScanRefusesForeignSnapshot(t *testing.T) {
	a, b := NewStore().Open(), NewStore().Open()
	p, err := a.Scan(ctx, driver.ScanRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, snap := range []any{p.Snapshot, 7} {
		if _, err := b.Scan(ctx, driver.ScanRequest{Snapshot: snap}); !errors.Is(err, driver.ErrSnapshotLost) {
			t.Errorf("snapshot %T: %v", snap, err)
		}
	}
}

// FuzzScan compares the seek into the tree with a sorted slice. The input is
// cut into keys at its newlines, so that keys with common beginnings, and keys
// that are prefixes of others, are a mutation away.
func FuzzScan(f *testing.F) {
	f.Add("a\nab\nabc\nb", "a", "ab")
	f.Add("a/b/c\na/b\na/c\na", "a/", "a/b")
	f.Add("abcd\nabce\nabdf", "ab", "abcx")
	f.Add("\x00\n\x00\x00\n\xff\n\xff\xff", "\xff", "")
	f.Add("b\nba\nbb", "", "a")
	f.Add("foo/bar\nfoo/baz\nfoobar", "foo/", "foo/bar/qux")
	f.Fuzz(func(t *testing.T, input, prefix, after string) {
		h := NewStore().Open()
		keys := slices.DeleteFunc(strings.Split(input, "\n"), func(k string) bool { return k == "" || len(k) > maxKeySize })
		slices.Sort(keys)
		keys = slices.Compact(keys)
		var want []string
		for _, k := range keys {
			swap(t, h, driver.Swap{Key: k, ID: 1}, driver.Applied)
			if strings.HasPrefix(k, prefix) && (after == "" || k > after) {
				want = append(want, k)
			}
		}
		p, err := h.Scan(ctx, driver.ScanRequest{Prefix: prefix, After: after})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range p.Entries {
			got = append(got, e.Key)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("keys %q, prefix %q, after %q: got %q, want %q", keys, prefix, after, got, want)
		}
	})
}

// TestKeys: a listing of keys alone is that of a scan, at any number of keys
// and whatever happened to them, and the caller's own.
func TestKeys(t *testing.T) {
	s, keys := filled(t, 600)
	h := s.Open()
	for _, key := range []string{keys[0], keys[300], keys[599]} {
		e, _ := s.Open().Get(ctx, driver.GetRequest{Key: key})
		if r, err := s.Open().Swap(ctx, driver.Swap{Key: key, Prev: e, Remove: true, ID: 1}); r.Outcome != driver.Applied {
			t.Fatal(r, err)
		}
	}
	for _, prefix := range []string{"", "bench/", keys[5], keys[5][:len(keys[5])-1], keys[300], keys[5] + "x", "c"} {
		page, err := s.Open().Scan(ctx, driver.ScanRequest{Prefix: prefix})
		if err != nil || page.More {
			t.Fatal(page.More, err)
		}
		var want []string
		for _, e := range page.Entries {
			want = append(want, e.Key)
		}
		for range 2 {
			got, err := h.Scan(ctx, driver.ScanRequest{Prefix: prefix, KeysOnly: true, Bare: true})
			if err != nil || got.More || !slices.Equal(got.Keys, want) {
				t.Fatalf("prefix %q: %d keys, want the %d of a scan: %v", prefix, len(got.Keys), len(want), err)
			}
			clear(got.Keys) // must not matter to the next
		}
	}
}
