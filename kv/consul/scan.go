package consul

import (
	"cmp"
	"context"
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

// Scan implements driver.Store. Consul can't page, so the first page has all.
// With req.KeysOnly it tells no versions.
func (s *store) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	l, err := s.list(ctx, s.query(req.AllowStale), driver.Range{Key: req.Prefix, IsPrefix: true}, req.KeysOnly)
	if err != nil {
		return driver.Page{}, s.wrap(ctx, err)
	}
	first, _ := slices.BinarySearchFunc(l.entries, req.After+"\x00", func(e driver.Entry, key string) int { return cmp.Compare(e.Key, key) })
	return driver.Page{Entries: l.entries[first:], Generation: l.gen}, nil
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
	byKey := func(a, b driver.Entry) int { return cmp.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(l.entries, byKey) { // Consul sorts
		slices.SortFunc(l.entries, byKey)
	}
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
