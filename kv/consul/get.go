package consul

import (
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// meta is what driver.Entry.Meta holds.
type meta struct {
	flags   uint64 // the ID of the write, if a driver of this package made it
	created uint64 // index at which the key was created
	session string // that it is attached to
}

// entryOf returns the entry of a key whose name in the store is pair.Key.
func entryOf(key string, pair *api.KVPair, gen uint64) driver.Entry {
	value := pair.Value
	if value == nil {
		value = []byte{}
	}
	return driver.Entry{
		Key:        key,
		Value:      value,
		Version:    driver.Version(pair.ModifyIndex),
		Meta:       &meta{pair.Flags, pair.CreateIndex, pair.Session},
		Generation: gen,
	}
}

// query returns the options of a read, without its context.
func (s *store) query(mayBeStale bool) *api.QueryOptions {
	q := &api.QueryOptions{}
	switch {
	case !mayBeStale || s.cfg.Consistency == consistent:
		q.RequireConsistent = true
	case s.cfg.Consistency == stale:
		q.AllowStale = true
	}
	return q
}

// Get implements driver.Store.
func (s *store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if len(req.Guards) > 0 || !s.inPath(req.Key) {
		return s.getInTxn(ctx, req)
	}
	l, err := s.single(ctx, s.query(req.AllowStale), req.Key)
	switch {
	case err != nil:
		return driver.Entry{}, s.wrap(ctx, err)
	case len(l.entries) == 0:
		return driver.Entry{Key: req.Key, Generation: l.gen}, nil
	}
	return l.entries[0], nil
}

// getInTxn reads a key with a transaction, which is linearizable, takes any
// key and can look at guards too.
func (s *store) getInTxn(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if err := s.checkTenancy(ctx); err != nil {
		return driver.Entry{}, s.wrap(ctx, err)
	}
	ops := append(s.cfg.guardOps(req.Guards), s.cfg.op(api.KVGet, req.Key, 0))
	m := s.history.Mark()
	e, _, err := do(ctx, s, func(ctx context.Context) (driver.Entry, error) {
		ok, resp, err := s.transact(ctx, ops, api.QueryOptions{RequireConsistent: true})
		if err != nil {
			return driver.Entry{}, err
		}
		if !ok {
			return driver.Entry{Key: req.Key, Generation: m.Gen}, whyNotRead(resp.Errors, req)
		}
		pair := s.resultFor(resp, len(ops), req.Key)
		if pair == nil {
			return driver.Entry{}, errFiltered
		}
		gen, err := s.history.Observe(m, kit.Answer{Index: pair.ModifyIndex})
		return entryOf(req.Key, pair, gen), err
	})
	if err != nil {
		return driver.Entry{}, s.wrap(ctx, err)
	}
	return e, nil
}

// whyNotRead returns nil if every guard holds and the key is absent.
func whyNotRead(errs api.TxnErrors, req driver.GetRequest) error {
	if guardBroken(errs, len(req.Guards)) {
		return driver.ErrFenced
	}
	_, err := absent(errs)
	return err
}

// absent returns which operations found that their key doesn't exist, in
// ascending order, or an error if there are other reasons, or none.
func absent(errs api.TxnErrors) (ops []int, err error) {
	for _, e := range errs {
		if !strings.HasPrefix(e.What, "key ") || !strings.HasSuffix(e.What, " doesn't exist") {
			return nil, &txnError{errs}
		}
		ops = append(ops, e.OpIndex)
	}
	if len(ops) == 0 {
		return nil, &txnError{}
	}
	slices.Sort(ops)
	return slices.Compact(ops), nil
}

// checkTenancy makes sure that the server knows namespaces and partitions if
// they are set: transactions of one that doesn't ignore them.
func (s *store) checkTenancy(ctx context.Context) error {
	if s.tenancy.Load() {
		return nil
	}
	_, err := s.single(ctx, s.query(true), probeKey)
	if err == nil || refusesToken(err) { // what the token allows is for the request itself to find out
		s.tenancy.Store(true)
		return nil
	}
	return err
}

// probeKey is a key that no user has, for questions about others.
const probeKey = ".polykv/probe"
