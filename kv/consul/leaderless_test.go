package consul_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
)

// attempts tells when the first attempt to write has ended.
type attempts struct {
	kv.NopObserver
	ended func(err error)
}

func (a *attempts) Request(_ context.Context, _, op string, _ time.Duration, err error) {
	if op == "swap" {
		a.ended(err)
	}
}

// A create while the cluster has no leader is refused by the server and made
// again, with default options: it is not left in doubt.
func TestCreateWithoutALeader(t *testing.T) {
	t.Parallel()
	c := servertest.Consul(t, testserver.Options{Nodes: 3})
	leader := servertest.Leader(t, c)
	left := (leader + 1) % 3
	others := []int{leader, (leader + 2) % 3}
	cfg := consul.DefaultConfig()
	cfg.Address = c.Endpoints()[left]
	store, err := consul.Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var once sync.Once
	observer := &attempts{ended: func(err error) { once.Do(func() { ended <- err }) }}
	client := kv.New(store, codec.String{}, &kv.Options{Observer: observer, RetryTimeout: time.Minute})
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	restarted := make(chan error, 1)
	away := sync.OnceFunc(func() {
		if err := c.Kill(others...); err != nil {
			t.Error(err)
		}
		raw := rawClient(t, cfg.Address)
		leaderless(t, raw)
		go func() {
			t.Logf("the first attempt ended with: %v", <-ended)
			// What was sent before this one is not held any more when this one
			// is refused.
			if _, err := raw.KV().Put(&api.KVPair{Key: "other"}, nil); err == nil {
				t.Error("a write without a leader")
			}
			restarted <- c.Restart(others...)
		}()
	})
	err = client.CAS(t.Context(), "k", func(any) (any, bool, error) {
		away() // once the key was read, or that would wait
		return "v", false, nil
	})
	if err != nil {
		t.Errorf("CAS = %v", err)
	}
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	if v, err := client.Get(t.Context(), "k"); err != nil || v != "v" {
		t.Errorf("Get = %v, %v", v, err)
	}
}

func rawClient(t *testing.T, address string) *api.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	raw, err := api.NewClient(&api.Config{Address: address, HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Error(err)
	}
	return raw
}

// leaderless waits until a server knows that there is no leader.
func leaderless(t *testing.T, raw *api.Client) {
	t.Helper()
	drivertest.Eventually(t, func() error {
		if leader, err := raw.Status().Leader(); err != nil || leader != "" {
			return errors.Join(fmt.Errorf("the leader is %q", leader), err)
		}
		return nil
	})
}
