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
	client := rawClient(t, c)
	acl := client.ACL()
	policy, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "anybody", Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const anonymous = "00000000-0000-0000-0000-000000000002"
	// By hand, since the client's newer versions send what this server doesn't know.
	token := map[string]any{"AccessorID": anonymous, "Policies": []any{map[string]string{"ID": policy.ID}}}
	if _, err := client.Raw().Write("/v1/acl/token/"+anonymous, token, nil, nil); err != nil {
		t.Fatal(err)
	}
}
