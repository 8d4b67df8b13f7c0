//go:build unix

package testserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/polykv/polykv/internal/testserver"
)

// dial returns how the server takes a client with this configuration.
func dial(t *testing.T, c *testserver.Cluster, config *tls.Config) error {
	t.Helper()
	conn, err := (&tls.Dialer{Config: config}).DialContext(limited(t), "tcp", c.Endpoints()[0])
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	check(t, conn.SetDeadline(time.Now().Add(limit)))
	if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 a refused client learns of it when it reads
	return err
}

func TestTLS(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c := k.cluster(t, testserver.Options{TLS: true, NoFsync: true})
			k.mustPut(t, c, 0, "key", "1")
			k.mustGet(t, c, 0, "key", "1")
			if !strings.HasPrefix(c.URLs()[0], "https://") {
				t.Errorf("URLs %v; want https", c.URLs())
			}
			if err := dial(t, c, &tls.Config{RootCAs: c.Authority().Pool()}); err != nil {
				t.Errorf("a client without a certificate was refused: %v", err)
			}
			if err := dial(t, c, &tls.Config{}); err == nil {
				t.Error("a client that doesn't know the authority trusted the server")
			}
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: limit}
			resp, err := client.Get("http://" + c.Endpoints()[0])
			if err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusBadRequest { // Go's answer to HTTP on a TLS port
					t.Errorf("served without TLS: %s", resp.Status)
				}
			}
		})
	}
}

func TestClientAuth(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c := k.cluster(t, testserver.Options{ClientAuth: true, NoFsync: true})
			k.mustPut(t, c, 0, "key", "1")
			k.mustGet(t, c, 0, "key", "1")
			if err := dial(t, c, c.TLSConfig()); err != nil {
				t.Errorf("the right certificate: %v", err)
			}
			if err := dial(t, c, &tls.Config{RootCAs: c.Authority().Pool()}); err == nil {
				t.Error("served a client without a certificate")
			}
			pair, err := c.Authority().Expired("late")
			check(t, err)
			late, err := pair.Load()
			check(t, err)
			if err := dial(t, c, &tls.Config{RootCAs: c.Authority().Pool(), Certificates: []tls.Certificate{late}}); err == nil {
				t.Error("served a client with an expired certificate")
			}
		})
	}
}

func TestEtcdUsers(t *testing.T) {
	c := kinds[0].cluster(t, testserver.Options{Auth: true, NoFsync: true})
	ctx := limited(t)
	check(t, c.AddUser(ctx, "app", "secret", testserver.Permission{Prefix: "app/", Read: true, Write: true},
		testserver.Permission{Prefix: "shared/", Read: true}))
	check(t, c.AddUser(ctx, "reader", "secret", testserver.Permission{Read: true}))
	kinds[0].mustPut(t, c, 0, "shared/key", "1")

	put := func(user, password, key string) error {
		return asUser(ctx, c, user, password, func(client *clientv3.Client) error {
			_, err := client.Put(ctx, key, "2")
			return err
		})
	}
	get := func(user, password, key string) error {
		return asUser(ctx, c, user, password, func(client *clientv3.Client) error {
			_, err := client.Get(ctx, key, clientv3.WithPrefix())
			return err
		})
	}
	denied, wrong := rpctypes.ErrPermissionDenied, rpctypes.ErrAuthFailed
	tests := []struct {
		name      string
		got, want error
	}{
		{"root", put("root", c.Password(), "any"), nil},
		{"own prefix", put("app", "secret", "app/key"), nil},
		{"other prefix", put("app", "secret", "other"), denied},
		{"read-only prefix, write", put("app", "secret", "shared/key"), denied},
		{"read-only prefix, read", get("app", "secret", "shared/key"), nil},
		{"everything, read", get("reader", "secret", ""), nil},
		{"everything, write", put("reader", "secret", "any"), denied},
		{"wrong password", put("app", "wrong", "app/key"), wrong},
		{"no user", put("", "", "app/key"), rpctypes.ErrUserEmpty},
	}
	for _, test := range tests {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: %v; want %v", test.name, test.got, test.want)
		}
	}

	check(t, c.Restart()) // with users already there
	ready(t, c)
	kinds[0].mustGet(t, c, 0, "shared/key", "1")
}

func asUser(ctx context.Context, c *testserver.Cluster, user, password string, f func(*clientv3.Client) error) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints(), Username: user, Password: password,
		Context: ctx, DialTimeout: limit, Logger: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return f(client)
}

func TestConsulTokens(t *testing.T) {
	c := kinds[1].cluster(t, testserver.Options{Auth: true})
	ctx := limited(t)
	token, err := c.AddToken(ctx, `key_prefix "app/" { policy = "write" }`)
	check(t, err)
	kinds[1].mustPut(t, c, 0, "any", "1")

	do := func(token, method, key string) string {
		if _, err := consulDo(ctx, c, 0, token, method, key, "2"); err != nil {
			return err.Error()
		}
		return "done"
	}
	tests := []struct{ name, got, want string }{
		{"own prefix", do(token, http.MethodPut, "app/key"), "done"},
		{"other prefix", do(token, http.MethodPut, "other"), "403"},
		{"no token", do("", http.MethodGet, "any"), "403"},
		{"wrong token", do("00000000-0000-0000-0000-000000000000", http.MethodGet, "any"), "403"},
	}
	for _, test := range tests {
		if !strings.HasPrefix(test.got, test.want) {
			t.Errorf("%s: %s; want %s", test.name, test.got, test.want)
		}
	}
}
