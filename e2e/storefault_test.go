package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv"
)

// withEtcd runs f with a plain client of the given servers, or of all.
func withEtcd(c *testserver.Cluster, f func(*clientv3.Client) error, nodes ...int) error {
	client, err := c.EtcdClient(nodes...)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return f(client)
}

// compactSome drops the history of the keys, up to now or almost.
func compactSome(ctx context.Context, r *round, f fault) error {
	return withEtcd(r.arena.cluster, func(c *clientv3.Client) error {
		now, err := c.Get(ctx, "any")
		if err != nil {
			return err
		}
		if _, err = c.Compact(ctx, max(1, now.Header.Revision-int64(f.rand().IntN(20)))); err != nil {
			return fmt.Errorf("compact: %w", err)
		}
		return nil
	})
}

// defragment has one server, or all in turn, rewrite its database, during
// which it serves nobody.
func defragment(ctx context.Context, r *round, f fault) error {
	nodes, err := r.nodes(ctx, f)
	if err != nil {
		return err
	}
	return withEtcd(r.arena.cluster, func(c *clientv3.Client) error {
		for _, n := range nodes {
			if _, err := c.Defragment(ctx, r.arena.cluster.URLs()[n]); err != nil {
				return fmt.Errorf("defragment node %d: %w", n, err)
			}
		}
		return nil
	})
}

// withConsul runs f with a plain client of the leader.
func withConsul(ctx context.Context, c *testserver.Cluster, f func(*api.Client) error) error {
	leads, err := c.Leader(ctx)
	if err != nil {
		return err
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := api.NewClient(&api.Config{Address: c.URLs()[leads], Token: c.Token(), HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		return err
	}
	return f(client)
}

// restoreBackup makes a backup and restores it when the fault has lasted, both
// while nobody writes: a write that runs beside a restore may be undone by it,
// or be carried out once before it and, repeated, once after it, which nothing
// that is told of the write could show. Everything written in between is
// undone, by which the history knows it.
func restoreBackup(ctx context.Context, r *round, f fault) error {
	var saved []byte
	var then map[string]any
	err := r.quietly(func() (err error) {
		then, err = r.read()
		if err != nil {
			return err
		}
		return withConsul(ctx, r.arena.cluster, func(c *api.Client) error {
			snapshot, _, err := c.Snapshot().Save((&api.QueryOptions{}).WithContext(ctx))
			if err != nil {
				return fmt.Errorf("make a backup: %w", err)
			}
			defer func() { _ = snapshot.Close() }()
			saved, err = io.ReadAll(snapshot)
			return err
		})
	})
	if err != nil {
		return err
	}
	time.Sleep(f.Lasts)
	return r.quietly(func() error {
		call := r.now()
		r.restored.Store(true)
		err := withConsul(ctx, r.arena.cluster, func(c *api.Client) error {
			return c.Snapshot().Restore((&api.WriteOptions{}).WithContext(ctx), bytes.NewReader(saved))
		})
		if err != nil {
			return fmt.Errorf("restore the backup: %w", err)
		}
		now, err := r.read()
		if err != nil {
			return err
		}
		if !maps.Equal(then, now) {
			return fmt.Errorf("the backup held %v; restored, the store has %v", then, now)
		}
		r.noteRestored(then, call)
		return nil
	})
}

// quietly runs f while no worker's operation runs, nothing is held up in the
// network, and no client is still finding out about a write whose callers have
// all left.
func (r *round) quietly(f func() error) error {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.network.Lock()
	defer r.network.Unlock()
	deadline := time.Now().Add(patience)
	for {
		groups := r.arena.goroutines("/polykv/kv.(*group)")
		if len(groups) == 0 {
			return f()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("clients without callers are still at work after %v:\n%s", patience, strings.Join(groups, "\n\n"))
		}
		time.Sleep(5 * time.Millisecond) // between two looks at the condition
	}
}

// read returns what the store has.
func (r *round) read() (store map[string]any, err error) {
	r.arena.direct(r.t, func(c kv.Client) { store, err = r.contents(c) })
	return store, err
}

func (r *round) noteRestored(store map[string]any, call time.Duration) {
	for _, h := range r.histories {
		text, _ := store[h.key].(string)
		h.add(op{kind: opRestore, wrote: text, fate: done, client: adminMember, call: call, ret: r.now()})
	}
	for _, c := range r.counters {
		text, _ := store[c.key].(string)
		n, _ := strconv.Atoi(text) // 0 if absent
		c.setBack(n)
	}
}

// revokeOne takes one client's rights, or all clients', and gives them back.
func revokeOne(ctx context.Context, r *round, f fault) error {
	var members []int
	for id := range r.arena.members {
		members = append(members, id)
	}
	if f.Where != all {
		members = members[:1]
		members[0] = f.rand().IntN(len(r.arena.members))
	}
	r.mu.Lock()
	r.revoking++
	r.mu.Unlock()
	defer func() {
		const spread = 10 * time.Second // until all servers, and the token file's reader, know of it
		r.mu.Lock()
		defer r.mu.Unlock()
		r.revoking--
		r.refuseUntil = time.Now().Add(spread)
	}()
	var errs []error
	for _, id := range members {
		errs = append(errs, r.arena.keeper.revoke(ctx, id))
	}
	time.Sleep(f.Lasts)
	for _, id := range members {
		errs = append(errs, r.arena.keeper.grant(ctx, id))
	}
	return errors.Join(errs...)
}
