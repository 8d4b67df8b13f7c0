package consul

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// secured refuses who shows no token.
var secured = servertest.SharedConsul(testserver.Options{Auth: true})

// with returns a store that shows a token; an empty one is anonymous.
func with(t testing.TB, c *testserver.Cluster, token string) *store {
	t.Helper()
	cfg := configFor(c)
	cfg.Token = config.NewSecret(token)
	return openStore(t, cfg)
}

func allowing(t testing.TB, c *testserver.Cluster, rules string) string {
	t.Helper()
	token, err := c.AddToken(t.Context(), rules)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// refusedEverywhere checks that nothing below prefix can be read or written.
func refusedEverywhere(t testing.TB, s *store, prefix string) {
	t.Helper()
	ctx := drivertest.WithTimeout(t, 10*time.Second)
	guard := []driver.Guard{{Key: prefix + "guard", Version: 1}}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, driver.ErrPermission) {
			t.Errorf("%s: %v", what, err)
		}
		if s.tokens == nil {
			return
		}
		if token := s.tokens.Current(); err != nil && token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("%s: the token is in the error: %v", what, err)
		}
	}
	for _, key := range []string{prefix + "present", prefix + "absent"} {
		_, err := s.Get(ctx, driver.GetRequest{Key: key})
		check("get", err)
		_, err = s.Get(ctx, driver.GetRequest{Key: key, Guards: guard})
		check("guarded get", err)
		check("watch of "+key, s.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: key}}, func(ev driver.Event) { t.Errorf("%+v", ev) }))
		for _, w := range []driver.Swap{
			{Value: []byte("v")},
			{Value: []byte("v"), Prev: driver.Entry{Version: 1}, Guards: guard},
			{Prev: driver.Entry{Version: 1}, Remove: true},
			{Value: make([]byte, 500<<10)},
		} {
			w.Key, w.ID = key, 1
			res, err := s.Swap(ctx, w)
			check("swap", err)
			if res.Outcome != driver.NotApplied {
				t.Errorf("swap: %v", res.Outcome)
			}
		}
	}
	for _, keysOnly := range []bool{true, false} {
		_, err := s.Scan(ctx, driver.ScanRequest{Prefix: prefix, KeysOnly: keysOnly})
		check("scan", err)
		_, err = s.Scan(ctx, driver.ScanRequest{Prefix: prefix + "nothing/", KeysOnly: keysOnly})
		check("scan of nothing", err)
	}
	check("watch", s.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: prefix, IsPrefix: true}}, func(ev driver.Event) { t.Errorf("%+v", ev) }))
	check("watch of nothing", s.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: prefix + "nothing/", IsPrefix: true}}, func(ev driver.Event) { t.Errorf("%+v", ev) }))
}

func TestWithoutPermission(t *testing.T) {
	c := secured.Get(t)
	root, p := with(t, c, c.Token()), drivertest.Unique(t)+"/"
	drivertest.Put(t, root, p+"present", "v")
	drivertest.Put(t, root, p+"\u00a0", "v")
	elsewhere := allowing(t, c, `key_prefix "elsewhere/" { policy = "write" }`)
	for name, token := range map[string]string{
		"anonymous": "", "unknown": "00000000-1111-2222-3333-444444444444", "elsewhere": elsewhere,
	} {
		t.Run(name, func(t *testing.T) {
			s := with(t, c, token)
			refusedEverywhere(t, s, p)
			if _, err := s.Get(t.Context(), driver.GetRequest{Key: p + "\u00a0"}); !errors.Is(err, driver.ErrPermission) {
				t.Error(err)
			}
		})
	}
	readOnly := with(t, c, allowing(t, c, fmt.Sprintf(`key_prefix %q { policy = "read" }`, p)))
	if e := drivertest.Get(t, readOnly, p+"present"); !e.Exists() {
		t.Error("not readable")
	}
	follow(t, readOnly, driver.Range{Key: p + "present", IsPrefix: true}).Sees(t, map[string]string{p + "present": "v"})
	for _, size := range []int{1, 500 << 10} {
		res, err := readOnly.Swap(t.Context(), driver.Swap{Key: p + "new", Value: make([]byte, size), ID: 1})
		if res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrPermission) {
			t.Errorf("%v, %v", res.Outcome, err)
		}
	}
}

// A token that may read a part of a range gets no listing of the range at
// all, rather than a shorter one.
func TestPartialPermission(t *testing.T) {
	c := secured.Get(t)
	root, p := with(t, c, c.Token()), drivertest.Unique(t)+"/"
	drivertest.Put(t, root, p+"mine/k", "v")
	s := with(t, c, allowing(t, c, fmt.Sprintf(`key_prefix %q { policy = "write" }`, p+"mine/")))
	if got := scan(t, s, driver.ScanRequest{Prefix: p + "mine/"}); len(got) != 1 {
		t.Errorf("%q", got)
	}
	follow(t, s, driver.Range{Key: p + "mine/", IsPrefix: true}).Sees(t, map[string]string{p + "mine/k": "v"})
	if got := scan(t, s, driver.ScanRequest{Prefix: p + "mine/none/"}); len(got) != 0 {
		t.Errorf("%q", got)
	}
	f := follow(t, s, driver.Range{Key: p, IsPrefix: true}) // so far nothing is hidden
	f.Sees(t, map[string]string{p + "mine/k": "v"})
	drivertest.Put(t, root, p+"theirs", "v")
	if err := f.Ends(t); !errors.Is(err, driver.ErrPermission) {
		t.Errorf("the watch ended with %v", err)
	}
	if n := f.Count(driver.Delete); n > 0 {
		t.Errorf("%d deletions", n)
	}
	for _, keysOnly := range []bool{true, false} {
		if page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: p, KeysOnly: keysOnly}); !errors.Is(err, driver.ErrPermission) {
			t.Errorf("%+v, %v", page, err)
		}
	}
	// A guard that may not be read can't be held against.
	guard := []driver.Guard{{Key: p + "theirs", Version: drivertest.Get(t, root, p+"theirs").Version}}
	res, err := s.Swap(t.Context(), driver.Swap{Key: p + "mine/new", Value: []byte("v"), Guards: guard, ID: 1})
	if res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrPermission) {
		t.Errorf("%v, %v", res.Outcome, err)
	}
}

// Without a token Consul doesn't say that it left keys out.
func TestPartialPermissionOfAnybody(t *testing.T) {
	t.Parallel()
	c := servertest.Consul(t, testserver.Options{Auth: true})
	root := with(t, c, c.Token())
	drivertest.Put(t, root, "open/k", "v")
	drivertest.Put(t, root, "closed", "v")
	allowAnybody(t, c, `key_prefix "open/" { policy = "read" }`)
	s := with(t, c, "")
	var f *follower
	drivertest.Eventually(t, func() error { // the policy takes a moment
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "open/k"})
		return err
	})
	f = follow(t, s, driver.Range{Key: "open/", IsPrefix: true})
	f.Sees(t, map[string]string{"open/k": "v"})
	drivertest.Put(t, root, "open/k", "w")
	f.Sees(t, map[string]string{"open/k": "w"})
	if got := scan(t, s, driver.ScanRequest{Prefix: "open/"}); len(got) != 1 {
		t.Errorf("%q", got)
	}
	for _, prefix := range []string{"", "o", "open"} {
		if page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: prefix}); !errors.Is(err, driver.ErrPermission) {
			t.Errorf("%q: %+v, %v", prefix, page, err)
		}
	}
}

// A token that is revoked and replaced in its file: what runs goes on, at the
// latest when it is started again.
func TestTokenFile(t *testing.T) {
	c := secured.Get(t)
	p := drivertest.Unique(t) + "/"
	root := with(t, c, c.Token())
	drivertest.Put(t, root, p+"k", "1")
	rules := fmt.Sprintf(`key_prefix %q { policy = "write" }`, p)
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(" "+token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	old := allowing(t, c, rules)
	write(old)
	cfg := configFor(c)
	cfg.TokenFile, cfg.WaitTime = file, time.Second
	s := openStore(t, cfg)
	f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.Sees(t, map[string]string{p + "k": "1"})

	revoke(t, c, old)
	if err := f.Ends(t); !errors.Is(err, driver.ErrPermission) {
		t.Fatalf("the watch ended with %v", err)
	}
	refusedEverywhere(t, s, p)

	write(allowing(t, c, rules))
	drivertest.Put(t, s, p+"k", "2") // the first call finds the new token by itself
	if res, err := s.Swap(t.Context(), driver.Swap{Key: p + "k2", Value: []byte("v"), ID: 1}); res.Outcome != driver.Applied {
		t.Errorf("%v, %v", res.Outcome, err)
	}
	again := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	again.Sees(t, map[string]string{p + "k": "2", p + "k2": "v"})

	// A running watch takes up a token that is replaced before it is revoked.
	old = s.tokens.Current()
	write(allowing(t, c, rules))
	drivertest.Eventually(t, func() error {
		if s.tokens.Current() == old {
			return errors.New("still the old token")
		}
		return nil
	})
	n := again.requests.Load()
	drivertest.Eventually(t, func() error {
		if again.requests.Load() < n+2 {
			return errors.New("still waiting with the old token")
		}
		return nil
	})
	revoke(t, c, old)
	drivertest.Put(t, s, p+"k", "3")
	again.Sees(t, map[string]string{p + "k": "3", p + "k2": "v"})

	// A file that is gone or empty leaves the last token in use.
	for _, spoil := range []func() error{
		func() error { return os.Truncate(file, 0) },
		func() error { return os.Remove(file) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if s.tokens.Replaced(s.tokens.Current()) { // which looks at once
			t.Error("another token")
		}
		drivertest.Put(t, s, p+"k", "4")
	}
}

func revoke(t testing.TB, c *testserver.Cluster, token string) {
	t.Helper()
	acl := rawClient(t, c).ACL()
	self, _, err := acl.TokenReadSelf(queryAs(token))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acl.TokenDelete(self.AccessorID, nil); err != nil {
		t.Fatal(err)
	}
	s := with(t, c, token)
	drivertest.Eventually(t, func() error { // servers remember tokens for a while
		if _, err := s.Get(context.Background(), driver.GetRequest{Key: "k"}); !errors.Is(err, driver.ErrPermission) {
			return fmt.Errorf("the token is still valid: %w", err)
		}
		return nil
	})
}
