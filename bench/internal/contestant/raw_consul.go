package contestant

import (
	"context"
	"fmt"
	"net/http"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-cleanhttp"

	"github.com/polykv/polykv/bench/workload"
)

// rawConsul is Consul's client. Reads are consistent, as polykv's are.
type rawConsul struct {
	client *api.Client
	close  func()
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

func (c *rawConsul) read(ctx context.Context, key string) (state, error) {
	pair, _, err := c.client.KV().Get(key, consistent(ctx))
	if err != nil || pair == nil {
		return state{}, err
	}
	return state{string(pair.Value), pair.ModifyIndex}, nil
}

// swap is a transaction, and a read after a conflict.
func (c *rawConsul) swap(ctx context.Context, key, value string, version uint64) (state, bool, error) {
	ops := api.TxnOps{{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: []byte(value), Index: version}}}
	ok, resp, _, err := c.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return state{}, false, err
	case !ok:
		now, err := c.read(ctx, key)
		return now, false, err
	case len(resp.Results) != 1:
		return state{}, false, fmt.Errorf("%d results of one operation", len(resp.Results))
	}
	return state{value, resp.Results[0].KV.ModifyIndex}, true, nil
}

// watch makes blocking queries.
func (c *rawConsul) watch(ctx context.Context, key string, prefix bool, f func(string, any) bool) {
	query := c.client.KV().List
	if !prefix {
		query = func(key string, o *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) {
			pair, about, err := c.client.KV().Get(key, o)
			if err != nil || pair == nil {
				return nil, about, err
			}
			return api.KVPairs{pair}, about, nil
		}
	}
	for index := uint64(0); ctx.Err() == nil; {
		pairs, about, err := query(key, (&api.QueryOptions{WaitIndex: index}).WithContext(ctx))
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
