package consul

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// strange are ends of keys, each of them good under rule K1 of package kv.
var strange = []string{
	" ", "a b", "a?b", "a#b", "a%b", "a%2Fb", "a+b", "a&b=c", `a"b'c`, `a\b`, "a;b", "a:b@c", "a|b<c>{d}",
	"ü", "日本語", "🙂", "a\u00a0b", "a\u200bb", "\ufeffa", "a\ue000b", "a\u2028b", "a\ufffdb",
	"..b", "b..", ".b", "...", "a/..b/.c", "~", strings.Repeat("k", 300), "key \"x\" doesn't exist",
}

// outlandish are keys that package kv refuses, but other tools may write.
var outlandish = []string{"a//b", "a/./b", "a/../b", "a/", "/a", "a\nb", "a\x00b", "."}

func TestStrangeKeys(t *testing.T) {
	s, p := openShared(t)
	fence := drivertest.Put(t, s, p+"fence", "")
	guard := []driver.Guard{{Key: fence.Key, Version: fence.Version}}
	for _, end := range append(slices.Clone(strange), outlandish...) {
		key := p + "x/" + end
		one := drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte(end), Guards: guard}, driver.Applied).Entry
		two := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Value: []byte(end), ID: 2}, driver.Applied).Entry
		drivertest.Swap(t, s, driver.Swap{Key: key, Prev: one, Remove: true}, driver.Conflict)
		if e := drivertest.Get(t, s, key); e.Key != key || string(e.Value) != end || e.Version != two.Version {
			t.Errorf("%q: read %+v", key, e)
		}
		e, err := s.Get(t.Context(), driver.GetRequest{Key: key, Guards: guard})
		if err != nil || e.Key != key || e.Version != two.Version {
			t.Errorf("%q: guarded read of %+v, %v", key, e, err)
		}
		if got := scan(t, s, driver.ScanRequest{Prefix: key}); !slices.Equal(got, []string{key}) {
			t.Errorf("%q: listed as %q", key, got)
		}
		drivertest.Remove(t, s, key)
		if e := drivertest.Get(t, s, key); e.Exists() || e.Key != key {
			t.Errorf("%q: after its removal %+v", key, e)
		}
	}
}

func scan(t testing.TB, s *store, req driver.ScanRequest) []string {
	t.Helper()
	page, err := s.Scan(drivertest.WithTimeout(t, 10*time.Second), req)
	if err != nil || page.More {
		t.Fatal(page.More, err)
	}
	keys := []string{}
	for _, e := range page.Entries {
		keys = append(keys, e.Key)
	}
	return keys
}

// Every prefix of every key lists exactly the keys that begin with it, also
// one that ends within a character, a ".." or a "//".
func TestScanOfEveryPrefix(t *testing.T) {
	s, p := openShared(t)
	var all []string
	for _, end := range append(slices.Clone(strange), "a", "b/c", "b/d", "a//b", "a/./b", "a\nb", "/a") {
		all = append(all, p+end)
		drivertest.Put(t, s, p+end, end)
	}
	slices.Sort(all)
	for _, key := range all {
		for n := len(p); n <= min(len(key), len(p)+16); n++ {
			prefix := key[:n]
			var want []string
			for _, k := range all {
				if strings.HasPrefix(k, prefix) {
					want = append(want, k)
				}
			}
			for _, keysOnly := range []bool{true, false} {
				if got := scan(t, s, driver.ScanRequest{Prefix: prefix, KeysOnly: keysOnly}); !slices.Equal(got, want) {
					t.Fatalf("%q (keys only: %v):\n%q, want\n%q", prefix, keysOnly, got, want)
				}
			}
		}
	}
}

func TestScanPages(t *testing.T) {
	s, p := openShared(t)
	for _, end := range []string{"b", "a", "c", "a/x", "ab"} {
		drivertest.Put(t, s, p+end, end)
	}
	for after, want := range map[string][]string{
		"":        {"a", "a/x", "ab", "b", "c"},
		p + "a":   {"a/x", "ab", "b", "c"},
		p + "aa":  {"ab", "b", "c"},
		p + "c":   {},
		p + "zz":  {},
		"\x00":    {"a", "a/x", "ab", "b", "c"},
		p + "ab/": {"b", "c"},
	} {
		for i := range want {
			want[i] = p + want[i]
		}
		if got := scan(t, s, driver.ScanRequest{Prefix: p, After: after}); !slices.Equal(got, want) {
			t.Errorf("after %q: %q, want %q", after, got, want)
		}
	}
	page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: p, Limit: 2})
	if err != nil || len(page.Entries) != 2 || !page.More {
		t.Fatalf("%+v, %v", page, err)
	}
	for _, e := range page.Entries {
		if now := drivertest.Get(t, s, e.Key); string(e.Value) != e.Key[len(p):] || now.Version != e.Version || now.Generation != page.Generation {
			t.Errorf("%+v, and by itself %+v", e, now)
		}
	}
	if got := scan(t, s, driver.ScanRequest{Prefix: p + "nothing"}); len(got) != 0 {
		t.Errorf("%q", got)
	}
	everything := scan(t, s, driver.ScanRequest{KeysOnly: true})
	if !slices.Contains(everything, p+"a") || !slices.IsSorted(everything) {
		t.Errorf("%q", everything)
	}
}

// Keys that are deleted while a listing is under way are left out, a whole page
// of them, too.
func TestScanOfWhatGoes(t *testing.T) {
	s, p := openShared(t)
	for _, end := range []string{"a", "b", "c", "d", "e", "f"} {
		drivertest.Put(t, s, p+end, end)
	}
	req := driver.ScanRequest{Prefix: p, Limit: 2}
	var got []string
	for remove := []string{"c", "d", "f"}; ; remove = nil {
		page, err := s.Scan(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			got = append(got, string(e.Value))
			req.After = e.Key
		}
		if !page.More {
			break
		}
		req.Snapshot = page.Snapshot
		for _, end := range remove {
			drivertest.Remove(t, s, p+end)
		}
	}
	if !slices.Equal(got, []string{"a", "b", "e"}) {
		t.Errorf("%q", got)
	}
}

func TestPathPrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"": "", "a": "a", "a/": "a/", "a/b": "a/b", "a//": "a/", "a//b": "a/", "/": "", "/a": "", ".": "", "..": "",
		"a/.": "a/", "a/..": "a/", "a/./b": "a/", "a/../b": "a/", "a/..b": "a/..b", "a/b\u00a0c": "a/b", "a\x00/..": "a", "a/b//c": "a/b/", "\n": "", "ü\xc3": "ü\xc3",
	} {
		if got := pathPrefix(prefix); got != want {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
}

// The consistency that is configured applies only where the caller allows it.
func TestConsistency(t *testing.T) {
	for mode, want := range map[string][2]bool{consistent: {true, false}, defaultConsistent: {false, false}, stale: {false, true}} {
		cfg := configFor(single.Get(t))
		cfg.Consistency = mode
		s := openStore(t, cfg)
		strict, loose := s.query(false), s.query(true)
		if !strict.RequireConsistent || strict.AllowStale || [2]bool{loose.RequireConsistent, loose.AllowStale} != want {
			t.Errorf("%s: %+v, %+v", mode, strict, loose)
		}
		key := drivertest.Unique(t) + "/" + mode
		drivertest.Put(t, s, key, "v")
		for _, allow := range []bool{true, false} {
			if e, err := s.Get(t.Context(), driver.GetRequest{Key: key, AllowStale: allow}); err != nil || string(e.Value) != "v" {
				t.Errorf("%s: %+v, %v", mode, e, err)
			}
			if page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: key, AllowStale: allow}); err != nil || len(page.Entries) != 1 {
				t.Errorf("%s: %+v, %v", mode, page, err)
			}
		}
	}
}
