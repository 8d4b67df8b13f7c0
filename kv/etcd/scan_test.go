package etcd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// scanAll reads all pages, calling between before each but the first.
func scanAll(t testing.TB, s *store, req driver.ScanRequest, between func()) (entries []driver.Entry, pages int) {
	t.Helper()
	for {
		page, err := s.Scan(drivertest.WithTimeout(t, 10*time.Second), req)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		entries = append(entries, page.Entries...)
		if !page.More {
			return entries, pages
		}
		req.Snapshot, req.After = page.Snapshot, page.Entries[len(page.Entries)-1].Key
		if between != nil {
			between()
		}
	}
}

func keysOf(entries []driver.Entry) []string {
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}

func TestScanShowsOneMoment(t *testing.T) {
	s, p := openShared(t)
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("%sk%d", p, i))
		drivertest.Put(t, s, want[i], fmt.Sprint(i))
	}
	n := 0
	change := func() {
		drivertest.Put(t, s, want[9], "changed")
		drivertest.Put(t, s, fmt.Sprintf("%sk9-%d", p, n), "new")
		n++
	}
	entries, pages := scanAll(t, s, driver.ScanRequest{Prefix: p, Limit: 3}, change)
	if pages != 4 || !slices.Equal(keysOf(entries), want) || string(entries[9].Value) != "9" {
		t.Fatalf("%d pages: %v", pages, entries)
	}
	for _, e := range entries {
		if !e.Exists() || e.Generation == 0 || e.Meta == nil {
			t.Fatalf("%+v", e)
		}
	}
	entries, _ = scanAll(t, s, driver.ScanRequest{Prefix: p, KeysOnly: true, After: want[8]}, nil)
	if len(entries) != 4 || entries[0].Key != want[9] || entries[0].Value != nil || !entries[0].Exists() {
		t.Fatalf("keys after %s: %v", want[8], entries)
	}
	if page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: p + "none"}); err != nil || len(page.Entries) > 0 || page.More {
		t.Fatalf("empty page: %+v, %v", page, err)
	}
}

func TestScanAfterCompaction(t *testing.T) {
	s, p := openShared(t)
	for i := range 4 {
		drivertest.Put(t, s, fmt.Sprintf("%sk%d", p, i), "v")
	}
	req := driver.ScanRequest{Prefix: p, Limit: 2}
	page, err := s.Scan(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	compact(t, drivertest.Put(t, s, p+"k3", "w"))
	req.Snapshot, req.After = page.Snapshot, page.Entries[1].Key
	if _, err := s.Scan(t.Context(), req); !errors.Is(err, driver.ErrSnapshotLost) {
		t.Fatalf("second page: %v", err)
	}
}

// compact makes the shared server forget all revisions before e.
func compact(t testing.TB, e driver.Entry) {
	t.Helper()
	client, err := single.Get(t).EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Compact(t.Context(), int64(e.Version)); err != nil {
		t.Fatal(err)
	}
}

// Large values end a page early, by size.
func TestScanLimitsBytes(t *testing.T) {
	s, p := openShared(t)
	value := strings.Repeat("v", 1<<20)
	for i := range 20 {
		drivertest.Put(t, s, fmt.Sprintf("%s%02d", p, i), value)
	}
	page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: p, Limit: 12})
	if err != nil || len(page.Entries) != 12 {
		t.Fatalf("a page over gRPC's default limit: %d entries, %v", len(page.Entries), err)
	}
	next, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: p, After: page.Entries[11].Key, Snapshot: page.Snapshot})
	if err != nil || len(next.Entries) != pageBytes>>20-1 || !next.More {
		t.Fatalf("the page after it: %d entries, %v", len(next.Entries), err)
	}
}

func TestStrangeKeys(t *testing.T) {
	s, p := openShared(t)
	long := p + strings.Repeat("ü", (512-len(p))/2)
	keys := []string{p + " ", p + "a b", p + "a?b", p + "a#b", p + "100%", p + "a+b", p + `q"\'&`, p + "日本語/🔑", long}
	slices.Sort(keys)
	for _, k := range keys {
		if e := drivertest.Put(t, s, k, k); e.Key != k {
			t.Fatalf("%q became %q", k, e.Key)
		}
		if e := drivertest.Get(t, s, k); e.Key != k || string(e.Value) != k {
			t.Fatalf("%q became %q", k, e.Key)
		}
	}
	entries, _ := scanAll(t, s, driver.ScanRequest{Prefix: p}, nil)
	if !slices.Equal(keysOf(entries), keys) {
		t.Fatalf("%q", keysOf(entries))
	}
}

// A prefix is bytes; one that ends in 0xff, or is nothing else, has an end too.
func TestInterval(t *testing.T) {
	for _, c := range []struct{ prefix, after, from, end string }{
		{"", "", "\x00", "\x00"},
		{"", "k", "k\x00", "\x00"},
		{"a/", "", "a/", "a0"},
		{"a/", "a/k", "a/k\x00", "a0"},
		{"a/", "a", "a/", "a0"},
		{"a\xff", "", "a\xff", "b"},
		{"\xff\xff", "", "\xff\xff", "\x00"},
		{"\xff", "\xffk", "\xffk\x00", "\x00"},
	} {
		if from, end := interval(c.prefix, c.after); string(from) != c.from || string(end) != c.end {
			t.Errorf("interval(%q, %q) = %q, %q; want %q, %q", c.prefix, c.after, from, end, c.from, c.end)
		}
	}
	s, p := openShared(t)
	drivertest.Put(t, s, p+"a\xff", "1")
	drivertest.Put(t, s, p+"a\xff\xff", "2")
	drivertest.Put(t, s, p+"b", "3")
	if entries, _ := scanAll(t, s, driver.ScanRequest{Prefix: p + "a\xff"}, nil); len(entries) != 2 {
		t.Errorf("%v", entries)
	}
	if entries, _ := scanAll(t, s, driver.ScanRequest{Limit: 1000}, nil); len(entries) < 3 {
		t.Errorf("everything: %v", entries)
	}
}
