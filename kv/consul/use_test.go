package consul

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// use returns a store over a client of the test's own.
func use(t *testing.T, client *api.Client, change func(*Config)) *store {
	t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	s, err := Use(client, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*store)
}

func TestUse(t *testing.T) {
	client := rawClient(t, single.Get(t))
	p := drivertest.Unique(t) + "/"
	s := use(t, client, func(c *Config) { c.WaitTime = time.Second })
	f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.IsSynced(t)
	e := drivertest.Put(t, s, p+"k", "1")
	f.Sees(t, map[string]string{p + "k": "1"})
	drivertest.Put(t, s, p+"k", "2")
	drivertest.Swap(t, s, driver.Swap{Key: p + "k", Prev: e, Value: []byte("3")}, driver.Conflict)
	drivertest.Swap(t, s, driver.Swap{Key: p + "large", Value: make([]byte, 500<<10)}, driver.Applied)
	if got := drivertest.Get(t, s, p+"absent"); got.Exists() {
		t.Errorf("%+v", got)
	}
	drivertest.Remove(t, s, p+"large")
	f.Sees(t, map[string]string{p + "k": "2"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Ends(t); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("the watch ended with %v", err)
	}
	if _, err := s.Get(t.Context(), driver.GetRequest{Key: p + "k"}); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, _, err := client.KV().Get(p+"k", nil); err != nil {
		t.Errorf("the program's client: %v", err)
	}
	if _, err := Use(nil, DefaultConfig()); err == nil {
		t.Error("no client is taken")
	}
}

// What the client makes of answers is told apart as without it.
func TestUseErrors(t *testing.T) {
	c := secured.Get(t)
	stranger, err := api.NewClient(&api.Config{Address: c.URLs()[0], Token: "no-such-token", HttpClient: rawHTTP(t, c)})
	if err != nil {
		t.Fatal(err)
	}
	refusedEverywhere(t, use(t, stranger, nil), drivertest.Unique(t)+"/")

	away, err := api.NewClient(&api.Config{Address: drivertest.Unused(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := use(t, away, nil)
	res, err := s.Swap(t.Context(), driver.Swap{Key: "k", Value: []byte("v"), ID: 1})
	if res.Outcome != driver.NotApplied || driver.IsPermanent(err) {
		t.Errorf("no server: %v, %v", res.Outcome, err)
	}
	s = use(t, rawClient(t, single.Get(t)), func(c *Config) { c.MaxValueSize = 8 << 20 })
	res, err = s.Swap(t.Context(), driver.Swap{Key: "k", Value: make([]byte, 1<<20), ID: 1})
	if res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrTooLarge) {
		t.Errorf("too large: %v, %v", res.Outcome, err)
	}
	for code, want := range map[int]driver.Outcome{502: driver.Unknown, 429: driver.NotApplied} { // no text says so
		answering, _ := answering(t, code, "somebody says something")
		client, err := api.NewClient(&api.Config{Address: answering.cfg.Address})
		if err != nil {
			t.Fatal(err)
		}
		got, err := use(t, client, nil).Swap(t.Context(), driver.Swap{Key: "k", Value: make([]byte, 500<<10), ID: 1})
		if got.Outcome != want || err == nil {
			t.Errorf("%d: %v, %v", code, got.Outcome, err)
		}
		if _, err := use(t, client, nil).Get(t.Context(), driver.GetRequest{Key: "k"}); err == nil {
			t.Errorf("%d is taken for an absent key", code)
		}
	}
	gone, _ := answering(t, 404, "no such page")
	client, err := api.NewClient(&api.Config{Address: gone.cfg.Address})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := use(t, client, nil).Get(t.Context(), driver.GetRequest{Key: "k"}); err == nil {
		t.Errorf("a page that is not found is an absent key: %+v", e)
	}
	if page, err := use(t, client, nil).Scan(t.Context(), driver.ScanRequest{Prefix: "k"}); err == nil {
		t.Errorf("a page that is not found is an empty store: %+v", page)
	}
}
