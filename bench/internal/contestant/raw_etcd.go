package contestant

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/polykv/polykv/bench/workload"
)

// rawEtcd is etcd's client.
type rawEtcd struct{ *clientv3.Client }

func openRawEtcd(t workload.Target) (rawClient, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: t.Endpoints, Logger: zap.NewNop()})
	return &rawEtcd{c}, err
}

// List implements workload.Client.
func (c *rawEtcd) List(ctx context.Context, prefix string) ([]string, error) {
	resp, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		keys[i] = string(kv.Key)
	}
	return keys, nil
}

func (c *rawEtcd) read(ctx context.Context, key string) (state, error) {
	resp, err := c.Get(ctx, key)
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

// swap is a transaction; a conflict brings the current value along.
func (c *rawEtcd) swap(ctx context.Context, key, value string, version uint64) (state, bool, error) {
	resp, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", int64(version))).
		Then(clientv3.OpPut(key, value)).
		Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return state{}, false, err
	}
	if resp.Succeeded {
		return state{value, uint64(resp.Header.Revision)}, true, nil
	}
	return etcdState((*clientv3.GetResponse)(resp.Responses[0].GetResponseRange())), false, nil
}

func (c *rawEtcd) watch(ctx context.Context, key string, prefix bool, f func(string, any) bool) {
	var options []clientv3.OpOption
	if prefix {
		options = append(options, clientv3.WithPrefix())
	}
	for resp := range c.Watch(ctx, key, options...) {
		for _, ev := range resp.Events {
			if !f(string(ev.Kv.Key), string(ev.Kv.Value)) {
				return
			}
		}
	}
}
