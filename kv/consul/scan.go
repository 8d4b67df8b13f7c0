package consul

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// listing is an answer about the keys of a range.
type listing struct {
	entries []driver.Entry // ascending by key
	index   uint64         // what to wait for a change of
	gen     uint64
	cost    time.Duration // of getting the answer, once the server had begun it
}

const (
	// What Consul answers to a question for values is as large as they are. So
	// they are read in transactions, of as many keys as Consul takes in one
	// (agent/txn_endpoint.go), or as make about so many bytes.
	maxTxnOps = 64
	pageBytes = 8 << 20
)

// snapshot is what driver.Page.Snapshot holds: what is left of a listing.
type snapshot struct {
	names []driver.Entry // the keys that there were, all of them
	gen   uint64
	limit int // a good size for the next page
}

// Scan implements driver.Store. The keys come all at once, of one moment, and
// without versions. Values come in pages, of a moment each.
func (s *store) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	q := s.query(req.AllowStale)
	snap, later := req.Snapshot.(*snapshot)
	if !later {
		l, err := s.list(ctx, q, driver.Range{Key: req.Prefix, IsPrefix: true}, true)
		if err != nil {
			return driver.Page{}, s.wrap(ctx, err)
		}
		snap = &snapshot{l.entries, l.gen, maxTxnOps}
	}
	first, _ := slices.BinarySearchFunc(snap.names, req.After+"\x00", func(e driver.Entry, key string) int { return cmp.Compare(e.Key, key) })
	rest := snap.names[first:]
	if req.KeysOnly {
		return driver.Page{Entries: rest, Generation: snap.gen}, nil
	}
	for len(rest) > 0 {
		n := min(snap.limit, len(rest), maxTxnOps)
		if req.Limit > 0 {
			n = min(n, req.Limit)
		}
		n = s.fitting(rest[:n])
		entries, size, err := s.values(ctx, rest[:n], q, snap.gen)
		if err != nil {
			return driver.Page{}, s.wrap(ctx, err)
		}
		rest = rest[n:]
		if len(entries) > 0 {
			next := &snapshot{snap.names, snap.gen, kit.PageSize(pageBytes, len(entries), size)}
			return driver.Page{Entries: entries, More: len(rest) > 0, Snapshot: next, Generation: snap.gen}, nil
		}
	}
	return driver.Page{Generation: snap.gen}, nil
}

// gets returns the operations that read the values of names.
func (c Config) gets(names []driver.Entry) api.TxnOps {
	ops := make(api.TxnOps, len(names))
	for i, e := range names {
		ops[i] = c.op(api.KVGet, e.Key, 0)
	}
	return ops
}

// fitting returns how many of the first names one transaction may ask for: with
// long keys and low limits of the servers its request may be too large.
func (s *store) fitting(names []driver.Entry) int {
	n := len(names)
	for n > 1 && bodySize(s.cfg.gets(names[:n]), nil) > s.cfg.MaxValueSize {
		n /= 2
	}
	return n
}

// values reads those of names that are still there, in one moment.
func (s *store) values(ctx context.Context, names []driver.Entry, q *api.QueryOptions, gen uint64) (entries []driver.Entry, size int, err error) {
	m := s.history.Mark()
	for len(names) > 0 {
		ops := s.cfg.gets(names)
		var gone []int
		resp, _, err := do(ctx, s, func(ctx context.Context) (resp *api.TxnResponse, err error) {
			ok, resp, err := s.transact(ctx, ops, *q)
			if err == nil && !ok {
				gone, err = absent(resp.Errors)
			}
			return resp, err
		})
		if err != nil {
			return nil, 0, err
		}
		if len(gone) > 0 {
			names = slices.Clone(names)
			for _, i := range slices.Backward(gone) {
				names = slices.Delete(names, i, i+1)
			}
			continue
		}
		if len(resp.Results) != len(ops) {
			return nil, 0, errFiltered
		}
		highest := uint64(0)
		for i, r := range resp.Results {
			entries = append(entries, entryOf(names[i].Key, r.KV, gen))
			size += len(r.KV.Key) + len(r.KV.Value)
			highest = max(highest, r.KV.ModifyIndex)
		}
		now, err := s.history.Observe(m, kit.Answer{Index: highest})
		if err == nil && now != gen {
			err = kit.ErrHistoryChanged
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", driver.ErrSnapshotLost, err)
		}
		return entries, size, nil
	}
	return nil, 0, nil
}

// list reads all keys of a range.
func (s *store) list(ctx context.Context, q *api.QueryOptions, r driver.Range, keysOnly bool) (listing, error) {
	name := s.cfg.Root.In(r.Key)
	path := pathPrefix(name)
	m := s.history.Mark()
	l, _, err := do(ctx, s, func(ctx context.Context) (listing, error) {
		q := q.WithContext(ctx)
		entries, about, err := s.fetch(path, keysOnly, q, m)
		if err == nil && len(entries) == 0 {
			err = noEndpoint(about)
		}
		if err != nil {
			return listing{}, err
		}
		l := listing{entries: entries, index: max(about.LastIndex, 1), gen: m.Gen, cost: sinceAnswer(ctx)}
		if path == "" && q.RequireConsistent { // then the index is that of all keys (agent/consul/state/kvs.go, kvsListTxn)
			if l.gen, err = s.history.Observe(m, kit.Answer{Index: about.LastIndex, Evidence: kit.Current}); err != nil {
				return listing{}, err
			}
		}
		return l, s.checkComplete(ctx, q, path, len(entries), about)
	})
	if err != nil {
		return listing{}, err
	}
	s.tenancy.Store(true)
	within := driver.Range{Key: name, IsPrefix: r.IsPrefix}
	l.entries = slices.DeleteFunc(l.entries, func(e driver.Entry) bool { return !within.Contains(e.Key) })
	for i := range l.entries {
		l.entries[i].Key = s.cfg.Root.Out(l.entries[i].Key)
		l.entries[i].Generation = l.gen
	}
	slices.SortFunc(l.entries, func(a, b driver.Entry) int { return cmp.Compare(a.Key, b.Key) }) // which costs little, since Consul sorts
	return l, nil
}

// single reads one key, which must be one that can be in a path.
func (s *store) single(ctx context.Context, q *api.QueryOptions, key string) (listing, error) {
	m := s.history.Mark()
	l, _, err := do(ctx, s, func(ctx context.Context) (listing, error) {
		q := q.WithContext(ctx)
		pair, about, err := s.kv.Get(s.cfg.Root.In(key), q)
		if err != nil {
			return listing{}, err
		}
		l := listing{index: max(about.LastIndex, 1), gen: m.Gen, cost: sinceAnswer(ctx)}
		switch {
		case pair != nil:
			l.gen, err = s.history.Observe(m, kit.Answer{Index: pair.ModifyIndex})
			l.entries = []driver.Entry{entryOf(key, pair, l.gen)}
		case noEndpoint(about) != nil:
			return listing{}, noEndpoint(about)
		case q.RequireConsistent: // then the index is that of all keys (agent/consul/kvs_endpoint.go, Get)
			l.gen, err = s.history.Observe(m, kit.Answer{Index: about.LastIndex, Evidence: kit.Current})
		}
		return l, err
	})
	if err == nil {
		s.tenancy.Store(true)
	}
	return l, err
}

func (s *store) fetch(path string, keysOnly bool, q *api.QueryOptions, m kit.Mark) ([]driver.Entry, *api.QueryMeta, error) {
	if keysOnly {
		keys, about, err := s.kv.Keys(path, "", q)
		entries := make([]driver.Entry, len(keys))
		for i, key := range keys {
			entries[i].Key = key
		}
		return entries, about, err
	}
	pairs, about, err := s.kv.List(path, q)
	entries := make([]driver.Entry, len(pairs))
	var highest uint64
	for i, pair := range pairs {
		entries[i] = entryOf(pair.Key, pair, m.Gen)
		highest = max(highest, pair.ModifyIndex)
	}
	if err == nil {
		_, err = s.history.Observe(m, kit.Answer{Index: highest})
	}
	return entries, about, err
}

// checkComplete returns an error if Consul left keys out for want of
// permission. It says so in a header, but not to who shows no token; and to
// who may read nothing it shows nothing. A single key it refuses openly.
func (s *store) checkComplete(ctx context.Context, q *api.QueryOptions, path string, n int, about *api.QueryMeta) error {
	if about.ResultsFilteredByACLs {
		return errFiltered
	}
	anonymous := attemptOf(ctx).token == "" && about.DefaultACLPolicy == "deny"
	if n > 0 && !anonymous {
		return nil
	}
	probe := *q
	probe.WaitIndex = 0
	_, _, err := s.kv.Get(cmp.Or(path, s.cfg.Root.In(probeKey)), probe.WithContext(ctx))
	return err
}
