package consul

import (
	"net/http"
	"testing"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
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
	return openStore(t, configFor(single.Get(t))), drivertest.Unique(t) + "/"
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
