//go:build unix

package testserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(childVariable); kind != "" {
		os.Exit(runAsParent(kind))
	}
	goleak.VerifyTestMain(m)
}

// limit is for everything in these tests that ends by itself, on a machine that may be busy.
const limit = time.Minute

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// A kind of server, with a way to write and read one key that shares no code with the package under test.
type kind struct {
	name  string
	start func(context.Context, testserver.Options) (*testserver.Cluster, error)
	put   func(ctx context.Context, c *testserver.Cluster, node int, key, value string) error
	get   func(ctx context.Context, c *testserver.Cluster, node int, key string) (string, error)
}

var kinds = []kind{
	{"etcd", testserver.StartEtcd, etcdPut, etcdGet},
	{"consul", testserver.StartConsul, consulPut, consulGet},
}

func (k kind) cluster(t *testing.T, o testserver.Options) *testserver.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // a server may have to be compiled
	defer cancel()
	o.Log = t.Output()
	c, err := k.start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (k kind) mustPut(t *testing.T, c *testserver.Cluster, node int, key, value string) {
	t.Helper()
	if err := k.put(limited(t), c, node, key, value); err != nil {
		t.Fatalf("put on node %d: %v", node, err)
	}
}

func (k kind) mustGet(t *testing.T, c *testserver.Cluster, node int, key, want string) {
	t.Helper()
	if got, err := k.get(limited(t), c, node, key); err != nil || got != want {
		t.Fatalf("get from node %d: %q, %v; want %q", node, got, err, want)
	}
}

func etcdPut(ctx context.Context, c *testserver.Cluster, node int, key, value string) error {
	client, err := c.EtcdClient(node)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	_, err = client.Put(ctx, key, value)
	return err
}

func etcdGet(ctx context.Context, c *testserver.Cluster, node int, key string) (string, error) {
	client, err := c.EtcdClient(node)
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	r, err := client.Get(ctx, key)
	if err != nil || len(r.Kvs) == 0 {
		return "", err
	}
	return string(r.Kvs[0].Value), nil
}

func consulPut(ctx context.Context, c *testserver.Cluster, node int, key, value string) error {
	_, err := consulDo(ctx, c, node, c.Token(), http.MethodPut, key, value)
	return err
}

func consulGet(ctx context.Context, c *testserver.Cluster, node int, key string) (string, error) {
	return consulDo(ctx, c, node, c.Token(), http.MethodGet, key+"?raw&consistent", "")
}

func consulDo(ctx context.Context, c *testserver.Cluster, node int, token, method, key, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URLs()[node]+"/v1/kv/"+key, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Consul-Token", token)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: c.TLSConfig(), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", resp.StatusCode, text)
	}
	return string(text), err
}
