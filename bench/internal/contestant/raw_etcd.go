package contestant

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/polykv/polykv/bench/workload"
)

// rawEtcd is etcd's client, with one request per operation.
type rawEtcd struct {
	*clientv3.Client
	known known
}

func openRawEtcd(t workload.Target) (rawClient, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: t.Endpoints, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	return &rawEtcd{Client: c}, nil
}

// List implements workload.Client.
func (c *rawEtcd) List(ctx context.Context, prefix string) ([]string, error) {
	resp, err := c.Client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		keys[i] = string(kv.Key)
	}
	return keys, nil
}

// Get implements workload.Client.
func (c *rawEtcd) Get(ctx context.Context, key string) (any, error) {
	s, err := c.read(ctx, key)
	return s.value, err
}

func (c *rawEtcd) read(ctx context.Context, key string) (state, error) {
	resp, err := c.Client.Get(ctx, key)
	if err != nil {
		return state{}, err
	}
	return etcdState(resp), nil
}

func etcdState(resp *clientv3.GetResponse) state {
	if len(resp.Kvs) == 0 {
		return state{}
	}
	return state{string(resp.Kvs[0].Value), uint64(resp.Kvs[0].ModRevision)}
}

// Delete implements workload.Client.
func (c *rawEtcd) Delete(ctx context.Context, key string) error {
	_, err := c.Client.Delete(ctx, key)
	return err
}

// CAS implements workload.Client with one transaction for each attempt; a
// conflict brings the current value along.
func (c *rawEtcd) CAS(ctx context.Context, key string, f func(any) (any, bool, error)) error {
	read := func() (state, error) { return c.read(ctx, key) }
	return c.known.swap(key, f, read, func(old state, value string) (state, bool, error) {
		resp, err := c.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", int64(old.version))).
			Then(clientv3.OpPut(key, value)).
			Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			return state{}, false, err
		}
		if resp.Succeeded {
			return state{value, uint64(resp.Header.Revision)}, true, nil
		}
		return etcdState((*clientv3.GetResponse)(resp.Responses[0].GetResponseRange())), false, nil
	})
}

// WatchKey implements workload.Client.
func (c *rawEtcd) WatchKey(ctx context.Context, key string, f func(any) bool) {
	for resp := range c.Watch(ctx, key) {
		for _, ev := range resp.Events {
			if !f(string(ev.Kv.Value)) {
				return
			}
		}
	}
}

// WatchPrefix implements workload.Client.
func (c *rawEtcd) WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool) {
	for resp := range c.Watch(ctx, prefix, clientv3.WithPrefix()) {
		for _, ev := range resp.Events {
			if !f(string(ev.Kv.Key), string(ev.Kv.Value)) {
				return
			}
		}
	}
}
