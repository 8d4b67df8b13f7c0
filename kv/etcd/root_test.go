package etcd

import (
	"strings"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// A root is before every key, and nobody sees it or what is outside.
func TestRoot(t *testing.T) {
	all, p := openShared(t)
	for _, root := range []string{"/" + p, p + "no slash", p + "//odd/../"} {
		t.Run(root, func(t *testing.T) {
			cfg := configFor(single.Get(t))
			cfg.Root = kit.Root(root)
			s := open(t, cfg)
			drivertest.Put(t, all, root[:len(root)-1]+"!outside", "x")
			keys, one := follow(t, s, driver.Range{IsPrefix: true}), follow(t, s, driver.Range{Key: "a/b"})
			keys.IsSynced(t)
			guard := drivertest.Put(t, s, "guard", "g")
			guards := []driver.Guard{{Key: "guard", Version: guard.Version}}
			e := drivertest.Put(t, s, "a/b", "1")
			res := drivertest.Swap(t, s, driver.Swap{Key: "a/b", Prev: e, Value: []byte("2"), Guards: guards}, driver.Applied)
			if res.Entry.Key != "a/b" {
				t.Errorf("swap: %+v", res.Entry)
			}
			res = drivertest.Swap(t, s, driver.Swap{Key: "a/b", Prev: e, Value: []byte("3"), Guards: guards}, driver.Conflict)
			if res.Entry.Key != "a/b" || string(res.Entry.Value) != "2" {
				t.Errorf("conflict with %+v", res.Entry)
			}
			got, err := s.Get(t.Context(), driver.GetRequest{Key: "a/b", Guards: guards})
			if err != nil || string(got.Value) != "2" || got.Key != "a/b" {
				t.Errorf("guarded get: %+v, %v", got, err)
			}
			one.Sees(t, map[string]string{"a/b": "2"})
			keys.Sees(t, map[string]string{"a/b": "2", "guard": "g"})
			if events := keys.Events(); len(events) > 4 {
				t.Errorf("more than its own: %+v", events)
			}
			for _, after := range []string{"", "a/b"} {
				page, err := s.Scan(t.Context(), driver.ScanRequest{After: after, KeysOnly: after == ""})
				if err != nil || page.Entries[len(page.Entries)-1].Key != "guard" {
					t.Errorf("scan after %q: %+v, %v", after, page.Entries, err)
				}
			}
			if e := drivertest.Get(t, all, root+"a/b"); string(e.Value) != "2" {
				t.Errorf("outside it is %+v", e)
			}
			drivertest.Remove(t, s, "a/b")
			one.Sees(t, map[string]string{})
		})
	}
}

// What tools name with a slash in front can be listed and written.
func TestRootOfOtherTools(t *testing.T) {
	all, p := openShared(t)
	for _, key := range []string{"pods/a", "pods/b", "nodes/c"} {
		drivertest.Put(t, all, "/"+p+key, "v")
	}
	cfg := configFor(single.Get(t))
	cfg.Root = kit.Root("/" + p)
	client := kv.New(open(t, cfg), codec.String{}, nil)
	defer func() { _ = client.Close() }()
	keys, err := client.List(t.Context(), "pods/")
	if err != nil || strings.Join(keys, " ") != "pods/a pods/b" {
		t.Errorf("%q, %v", keys, err)
	}
	if err := client.CAS(t.Context(), "pods/a", func(any) (any, bool, error) { return "w", false, nil }); err != nil {
		t.Error(err)
	}
	if e := drivertest.Get(t, all, "/"+p+"pods/a"); string(e.Value) != "w" {
		t.Errorf("%+v", e)
	}
}

// The root counts in what fits a request.
func TestRootIsCounted(t *testing.T) {
	cfg := configFor(single.Get(t))
	cfg.Root = kit.Root(strings.Repeat("r", 256))
	s := open(t, cfg)
	limitsHold(t, s)
}

// A page after a key that is the prefix itself begins behind it.
func TestPageAfterThePrefix(t *testing.T) {
	s, p := openShared(t)
	key := strings.TrimSuffix(p, "/")
	drivertest.Put(t, s, key, "itself")
	drivertest.Put(t, s, p+"below", "v")
	page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: key, After: key})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Key != p+"below" {
		t.Errorf("%+v, %v", page.Entries, err)
	}
}
