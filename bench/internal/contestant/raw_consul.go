package contestant

import (
	"context"
	"fmt"
	"net/http"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-cleanhttp"

	"github.com/polykv/polykv/bench/workload"
)

// rawConsul is Consul's client, with one request per operation. Reads are
// consistent, as polykv's are.
type rawConsul struct {
	client *api.Client
	close  func()
	known  known
	leave  []func() // of elections
}

func openRawConsul(t workload.Target) (rawClient, error) {
	transport := cleanhttp.DefaultPooledTransport()
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns // or 64 callers would connect anew all the time
	c, err := api.NewClient(&api.Config{Address: t.Endpoints[0], HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, err
	}
	return &rawConsul{client: c, close: transport.CloseIdleConnections}, nil
}

func (c *rawConsul) Close() error {
	for _, leave := range c.leave {
		leave()
	}
	c.close()
	return nil
}

func consistent(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
}

// List implements workload.Client.
func (c *rawConsul) List(ctx context.Context, prefix string) ([]string, error) {
	keys, _, err := c.client.KV().Keys(prefix, "", consistent(ctx))
	return keys, err
}

// Get implements workload.Client.
func (c *rawConsul) Get(ctx context.Context, key string) (any, error) {
	s, err := c.read(ctx, key)
	return s.value, err
}

func (c *rawConsul) read(ctx context.Context, key string) (state, error) {
	pair, _, err := c.client.KV().Get(key, consistent(ctx))
	if err != nil || pair == nil {
		return state{}, err
	}
	return state{string(pair.Value), pair.ModifyIndex}, nil
}

// Delete implements workload.Client.
func (c *rawConsul) Delete(ctx context.Context, key string) error {
	_, err := c.client.KV().Delete(key, (&api.WriteOptions{}).WithContext(ctx))
	return err
}

// CAS implements workload.Client with one transaction for each attempt, and a
// read after a conflict.
func (c *rawConsul) CAS(ctx context.Context, key string, f func(any) (any, bool, error)) error {
	read := func() (state, error) { return c.read(ctx, key) }
	return c.known.swap(key, f, read, func(old state, value string) (state, bool, error) {
		ops := api.TxnOps{{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: []byte(value), Index: old.version}}}
		ok, resp, _, err := c.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
		switch {
		case err != nil:
			return state{}, false, err
		case !ok:
			now, err := read()
			return now, false, err
		case len(resp.Results) != 1:
			return state{}, false, fmt.Errorf("%d results of one operation", len(resp.Results))
		}
		return state{value, resp.Results[0].KV.ModifyIndex}, true, nil
	})
}

// WatchKey implements workload.Client with blocking queries.
func (c *rawConsul) WatchKey(ctx context.Context, key string, f func(any) bool) {
	for index := uint64(0); ctx.Err() == nil; {
		pair, about, err := c.client.KV().Get(key, (&api.QueryOptions{WaitIndex: index}).WithContext(ctx))
		if err != nil {
			return
		}
		if pair != nil && about.LastIndex != index && !f(string(pair.Value)) {
			return
		}
		index = about.LastIndex
	}
}

// WatchPrefix implements workload.Client with blocking queries.
func (c *rawConsul) WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool) {
	for index := uint64(0); ctx.Err() == nil; {
		pairs, about, err := c.client.KV().List(prefix, (&api.QueryOptions{WaitIndex: index}).WithContext(ctx))
		if err != nil {
			return
		}
		for _, pair := range pairs {
			if pair.ModifyIndex > index && !f(pair.Key, string(pair.Value)) {
				return
			}
		}
		index = about.LastIndex
	}
}
