package consul

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// single is one server without TLS or ACLs that most tests share, each under
// a prefix of its own.
var single = servertest.SharedConsul(testserver.Options{})

func TestMain(m *testing.M) { goleak.VerifyTestMain(servertest.Main(m, single, secured, mutual)) }

// openStore returns a store that ends with the test.
func openStore(t testing.TB, cfg Config) *store {
	t.Helper()
	s, err := Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.(*store)
}

func configFor(c *testserver.Cluster) Config {
	cfg := DefaultConfig()
	cfg.Address = c.URLs()[0]
	return cfg
}

// openShared returns a store on the shared server, and a prefix for the test.
func openShared(t testing.TB) (s *store, prefix string) {
	t.Helper()
	return openStore(t, configFor(single.Get(t))), unique(t) + "/"
}

// unique returns the test's name with something that no other run of it has.
func unique(t testing.TB) string { return fmt.Sprintf("%s-%x", t.Name(), rand.Uint32()) }

func withTimeout(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func get(t testing.TB, s *store, key string) driver.Entry {
	t.Helper()
	e, err := s.Get(withTimeout(t, 10*time.Second), driver.GetRequest{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// swap makes one swap that must have the given outcome.
func swap(t testing.TB, s *store, w driver.Swap, want driver.Outcome) driver.Result {
	t.Helper()
	if w.ID == 0 {
		w.ID = 1
	}
	res, err := s.Swap(withTimeout(t, 10*time.Second), w)
	if res.Outcome != want {
		t.Fatalf("swap of %q: outcome %v (%v), want %v", w.Key, res.Outcome, err, want)
	}
	if (want == driver.NotApplied || want == driver.Unknown) != (err != nil) {
		t.Fatalf("swap of %q: %v with error %v", w.Key, res.Outcome, err)
	}
	return res
}

// put writes value over whatever the key holds, and returns the new entry.
func put(t testing.TB, s *store, key, value string) driver.Entry {
	t.Helper()
	return swap(t, s, driver.Swap{Key: key, Prev: get(t, s, key), Value: []byte(value)}, driver.Applied).Entry
}

func remove(t testing.TB, s *store, key string) {
	t.Helper()
	swap(t, s, driver.Swap{Key: key, Prev: get(t, s, key), Remove: true}, driver.Applied)
}

// rawClient returns Consul's own client, with all permissions.
func rawClient(t testing.TB, c *testserver.Cluster) *api.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: c.TLSConfig()}
	t.Cleanup(transport.CloseIdleConnections)
	raw, err := api.NewClient(&api.Config{Address: c.URLs()[0], Token: c.Token(), HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func queryAs(token string) *api.QueryOptions { return &api.QueryOptions{Token: token} }

// allowAnybody gives permissions to who shows no token.
func allowAnybody(t testing.TB, c *testserver.Cluster, rules string) {
	t.Helper()
	acl := rawClient(t, c).ACL()
	policy, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "anybody", Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	anonymous := &api.ACLToken{AccessorID: "00000000-0000-0000-0000-000000000002", Policies: []*api.ACLLink{{ID: policy.ID}}}
	if _, _, err := acl.TokenUpdate(anonymous, nil); err != nil {
		t.Fatal(err)
	}
}
