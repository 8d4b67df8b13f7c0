package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/certs"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/factory"
)

// startOwn starts a server that the test may break.
func startOwn(t *testing.T) *testserver.Cluster {
	t.Helper()
	return servertest.Etcd(t, testserver.Options{NoFsync: true})
}

// dialTimeout is short, so that a test can tell that it is kept.
const dialTimeout = 2 * time.Second

// wantFailure checks one line, exit code 3, and the time it took.
func wantFailure(t *testing.T, secret string, parts []string, args ...string) {
	t.Helper()
	start := time.Now()
	r := run(t, "", append(args, "--etcd.dial-timeout="+dialTimeout.String())...)
	if took := time.Since(start); took > dialTimeout+2*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, part := range parts {
		r.want(t, 3, "", part)
	}
	oneLineWithout(t, r, secret)
}

func TestUnreachable(t *testing.T) {
	const secret = "hunter2"
	stopped := startOwn(t)
	if err := stopped.Pause(); err != nil {
		t.Fatal(err)
	}
	silent := stopped.Endpoints()[0]
	plainEndpoint := plain.Get(t).Endpoints()[0]
	for _, c := range []struct {
		name, endpoint string
		want           []string
	}{
		{"nobody listens", "127.0.0.1:1", []string{"can't reach etcd at 127.0.0.1:1: ", "connection refused", "check that it runs there"}},
		{"no such host", "no-such-host.invalid:2379", []string{"can't reach etcd at no-such-host.invalid:2379: ", "no such host"}},
		{"no answer", silent, []string{"can't reach etcd at " + silent + ": no answer within", "check that it runs there"}},
		{"no TLS there", "https://" + plainEndpoint, []string{"can't reach etcd at https://" + plainEndpoint, "handshake", "--etcd.tls.*"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, command := range [][]string{{"get", "k"}, {"put", "k", "v"}, {"demo"}} {
				t.Run(command[0], func(t *testing.T) {
					t.Parallel()
					flags := []string{"--backend=etcd", "--etcd.endpoints=" + c.endpoint, "--etcd.username=u", "--etcd.password=" + secret}
					wantFailure(t, secret, c.want, append(flags, command...)...)
				})
			}
		})
	}
}

// onSecured returns flags that lead to a server with TLS, client certificates
// and users, without user and password.
func onSecured(t *testing.T, args ...string) []string {
	t.Helper()
	c := secured.Get(t)
	return append([]string{
		"--backend=etcd", "--etcd.endpoints=" + c.URLs()[0],
		"--etcd.tls.ca-file=" + c.Authority().File(), "--etcd.tls.cert-file=" + c.ClientCert().CertFile,
		"--etcd.tls.key-file=" + c.ClientCert().KeyFile, "--etcd.tls.enabled",
	}, args...)
}

func TestSecuredServer(t *testing.T) {
	c := secured.Get(t)
	config := writeFile(t, "polykv.yaml", "etcd:\n  username: "+c.User()+"\n  password: "+c.Password()+"\n")
	run(t, "", onSecured(t, "--config", config, "put", t.Name(), "v")...).want(t, 0, "", "")
	run(t, "", onSecured(t, "--config", config, "get", t.Name())...).want(t, 0, "v", "")
}

func TestRefusedByTheServer(t *testing.T) {
	const secret = "hunter2"
	c := secured.Get(t)
	other, err := certs.NewAuthority(t.TempDir(), "other")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.Client("stranger")
	if err != nil {
		t.Fatal(err)
	}
	good := []string{"--etcd.username=" + c.User(), "--etcd.password=" + c.Password()}
	for _, f := range []struct {
		name string
		args []string
		want []string
	}{
		{"wrong password", []string{"--etcd.username=" + c.User(), "--etcd.password=" + secret}, []string{"etcd at " + c.URLs()[0], "permission denied", "check the credentials in --etcd.*"}},
		{"no such user", []string{"--etcd.username=nobody", "--etcd.password=" + secret}, []string{"permission denied", "check the credentials"}},
		{"wrong authority", append(good, "--etcd.tls.ca-file="+other.File()), []string{"can't reach etcd at " + c.URLs()[0], "certificate", "--etcd.tls.*"}},
		{"wrong certificate", append(good, "--etcd.tls.cert-file="+stranger.CertFile, "--etcd.tls.key-file="+stranger.KeyFile), []string{"can't reach etcd at " + c.URLs()[0], "certificate", "--etcd.tls.*"}},
		{"no certificate", append(good, "--etcd.tls.cert-file=", "--etcd.tls.key-file="), []string{"can't reach etcd at " + c.URLs()[0], "certificate", "--etcd.tls.*"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			for _, command := range [][]string{{"get", "k"}, {"put", "refused", "v"}, {"watch", "k"}, {"watch", "-p"}, {"list"}, {"demo"}} {
				wantFailure(t, secret, f.want, onSecured(t, append(f.args, command...)...)...)
			}
		})
	}
	run(t, "", onSecured(t, append(good, "get", "refused")...)...).want(t, 1, "", "absent")
	if keys := allKeys(t, c); len(keys) > 1 { // the one of TestSecuredServer
		t.Errorf("written: %q", keys)
	}
}

// allKeys reads the server without polykv.
func allKeys(t *testing.T, c *testserver.Cluster) []string {
	t.Helper()
	client, err := c.EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	got, err := client.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, kv := range got.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// TestPartlyAllowed: a user who may read only one prefix can do that, though
// not the key that is pinged.
func TestPartlyAllowed(t *testing.T) {
	c := secured.Get(t)
	err := c.AddUser(t.Context(), "reader", "pw", testserver.Permission{Prefix: "open/", Read: true})
	if err != nil {
		t.Fatal(err)
	}
	as := func(args ...string) result {
		return run(t, "", onSecured(t, append(args, "--etcd.username=reader", "--etcd.password=pw")...)...)
	}
	as("get", "open/k").want(t, 1, "", `polykv: the key "open/k" is absent`+"\n")
	as("list", "open/").want(t, 0, "", "")
	as("put", "open/k", "v").want(t, 3, "", "permission denied")
	as("get", "closed").want(t, 3, "", "permission denied; check the credentials")
	as("watch", "closed").want(t, 3, "", "permission denied")
	as("watch", "-p").want(t, 3, "", "permission denied")
	as("demo").want(t, 3, "", "permission denied")
}

func TestInterruptWhileTheServerIsSilent(t *testing.T) {
	c := startOwn(t)
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	r := runWith(ctx, factory.Builtin(), strings.NewReader(""), "--backend=etcd", "--etcd.endpoints="+c.Endpoints()[0], "get", "k")
	r.want(t, 3, "", "polykv: interrupted: ")
	if strings.Count(r.stderr, "context canceled") > 1 {
		t.Errorf("it repeats itself: %s", r.stderr)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}
