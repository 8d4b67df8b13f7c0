package etcd

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// secured has users.
var secured = servertest.SharedEtcd(testserver.Options{NoFsync: true, Auth: true})

func configAs(c *testserver.Cluster, user, password string) Config {
	cfg := configFor(c)
	cfg.Username, cfg.Password = user, config.NewSecret(password)
	return cfg
}

func TestWrongPassword(t *testing.T) {
	const wrong = "not-the-passw0rd"
	s := open(t, configAs(secured.Get(t), "root", wrong))
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, driver.ErrPermission) || !errors.Is(err, rpctypes.ErrAuthFailed) ||
			!strings.Contains(err.Error(), `"root"`) || strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			_, err := s.Get(drivertest.WithTimeout(t, 10*time.Second), driver.GetRequest{Key: "k"})
			check("get", err)
		})
	}
	calls.Wait()
	res, err := s.Swap(drivertest.WithTimeout(t, 10*time.Second), driver.Swap{Key: "k", ID: 1})
	check("swap", err)
	if res.Outcome != driver.NotApplied {
		t.Errorf("swap: %v", res.Outcome)
	}
	check("watch", s.Watch(drivertest.WithTimeout(t, 10*time.Second), driver.WatchRequest{Range: driver.Range{Key: "k"}}, nil))
}

func TestNoCredentials(t *testing.T) {
	s := open(t, configFor(secured.Get(t)))
	_, err := s.Get(drivertest.WithTimeout(t, 10*time.Second), driver.GetRequest{Key: "k"})
	if !errors.Is(err, driver.ErrPermission) || !errors.Is(err, rpctypes.ErrUserEmpty) {
		t.Errorf("get: %v", err)
	}
	res, err := s.Swap(drivertest.WithTimeout(t, 10*time.Second), driver.Swap{Key: "k", ID: 1})
	if !errors.Is(err, driver.ErrPermission) || res.Outcome != driver.NotApplied {
		t.Errorf("swap: %v, %v", res.Outcome, err)
	}
}

// Credentials for a server that asks for none do no harm, as with etcdctl.
func TestNeedlessCredentials(t *testing.T) {
	s := open(t, configAs(single.Get(t), "root", "secret"))
	drivertest.Put(t, s, t.Name(), "v")
}

func TestPermissionForAPrefix(t *testing.T) {
	c := secured.Get(t)
	name := drivertest.Unique(t)
	err := c.AddUser(t.Context(), name, "app-password",
		testserver.Permission{Prefix: "app/", Read: true, Write: true},
		testserver.Permission{Prefix: "shared/", Read: true})
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Put(t, open(t, configAs(c, c.User(), c.Password())), "shared/k", "v")
	s := open(t, configAs(c, name, "app-password"))
	mine := drivertest.Put(t, s, "app/k", "v")
	f := follow(t, s, driver.Range{Key: "app/", IsPrefix: true})
	f.Sees(t, map[string]string{"app/k": "v"})
	shared := drivertest.Get(t, s, "shared/k")

	denied := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, driver.ErrPermission) || !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx := drivertest.WithTimeout(t, 10*time.Second)
	for _, w := range []driver.Swap{
		{Key: "other", Value: []byte("v")},
		{Key: "shared/k", Prev: shared, Value: []byte("v")},
		{Key: "shared/k", Prev: shared, Remove: true},
		{Key: "app/k", Prev: mine, Value: []byte("v"), Guards: []driver.Guard{{Key: "other", Version: 1}}},
	} {
		w.ID = 1
		res, err := s.Swap(ctx, w)
		denied("swap of "+w.Key, err)
		if res.Outcome != driver.NotApplied {
			t.Errorf("swap of %s: %v", w.Key, res.Outcome)
		}
	}
	_, err = s.Get(ctx, driver.GetRequest{Key: "other"})
	denied("get", err)
	_, err = s.Scan(ctx, driver.ScanRequest{})
	denied("scan of everything", err)
	denied("watch of everything", s.Watch(ctx, driver.WatchRequest{Range: driver.Range{IsPrefix: true}}, func(driver.Event) {}))
	if e := drivertest.Get(t, s, "app/k"); e.Version != mine.Version {
		t.Errorf("%+v was %+v", e, mine)
	}
}

// A token that the server no longer takes, as after five idle minutes, is
// replaced without the caller's noticing, whatever the call, and a watch does
// not fail for the older token of the stream that it might have shared.
func TestTokensAreRenewed(t *testing.T) {
	c := secured.Get(t)
	name := drivertest.Unique(t)
	p := name + "/"
	if err := c.AddUser(t.Context(), name, "pw", testserver.Permission{Prefix: p, Read: true, Write: true}); err != nil {
		t.Fatal(err)
	}
	s := open(t, configAs(c, name, "pw"))
	root, err := c.EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	expire := func() {
		t.Helper()
		// Setting the password, if only to what it was, ends the user's tokens.
		if _, err := root.UserChangePassword(t.Context(), name, "pw"); err != nil {
			t.Fatal(err)
		}
		old := s.logins.current.Load()
		if _, err := s.kv.Range(old.outgoing(t.Context(), false), rangeOf(p+"k"), s.opts...); !tokenRefused(err) {
			t.Fatalf("the old token: %v", err)
		}
	}
	keep := follow(t, s, driver.Range{Key: p + "kept"}) // holds a stream of the first token
	drivertest.Put(t, s, p+"kept", "0")
	keep.Sees(t, map[string]string{p + "kept": "0"})
	moved := drivertest.Put(t, s, p+"kept", "1") // what comes now, comes over the stream
	keep.Sees(t, map[string]string{p + "kept": "1"})
	expire()
	e := drivertest.Put(t, s, p+"k", "1")
	expire()
	e = drivertest.Swap(t, s, driver.Swap{Key: p + "k", Prev: e, Value: []byte("2")}, driver.Applied).Entry
	if got := drivertest.Get(t, s, p+"k"); got.Version != e.Version || got.Meta.(*meta).writes != 2 {
		t.Errorf("%+v, %+v", got, got.Meta)
	}
	expire()
	f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.Sees(t, map[string]string{p + "k": "2", p + "kept": "1"})
	drivertest.Swap(t, s, driver.Swap{Key: p + "kept", Prev: moved, Value: []byte("3")}, driver.Applied)
	f.Sees(t, map[string]string{p + "k": "2", p + "kept": "3"})
	keep.Sees(t, map[string]string{p + "kept": "3"})
}

// A restarted server knows no tokens.
func TestTokensAfterARestart(t *testing.T) {
	c := servertest.Etcd(t, testserver.Options{Auth: true})
	s := open(t, configAs(c, c.User(), c.Password()))
	e := drivertest.Put(t, s, "k", "1")
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	drivertest.Eventually(t, func() error {
		res, err := s.Swap(t.Context(), driver.Swap{Key: "k", Prev: e, Value: []byte("2"), ID: 1})
		if err != nil && res.Outcome != driver.NotApplied {
			t.Fatalf("%v, %v", res.Outcome, err)
		}
		return err
	})
}

// A watch that only the stream's server refuses, for a token that is good
// elsewhere, makes the next session log in again.
func TestWatchRenewsItsToken(t *testing.T) {
	c := secured.Get(t)
	s := open(t, configAs(c, c.User(), c.Password()))
	drivertest.Get(t, s, "k")
	forged := newSession("forged.1")
	s.logins.current.Store(forged)
	err := s.Watch(drivertest.WithTimeout(t, 10*time.Second), driver.WatchRequest{Range: driver.Range{Key: "k"}}, func(driver.Event) {
		s.logins.current.Store(forged) // the snapshot's calls have replaced it
	})
	if !errors.Is(err, rpctypes.ErrInvalidAuthToken) || driver.IsPermanent(err) {
		t.Errorf("ended with %v", err)
	}
	f := follow(t, s, driver.Range{Key: "k"})
	f.Sees(t, map[string]string{})
}
