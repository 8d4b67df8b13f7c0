package consul

import (
	"context"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
)

// Swap implements driver.Store with one transaction, or "PUT ?cas=" for a
// value that is too large for one.
func (s *store) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if err := s.checkTenancy(ctx); err != nil {
		return driver.Result{Outcome: driver.NotApplied}, s.wrap(ctx, err)
	}
	send := s.swapInTxn
	if s.tooLargeForTxn(w) && len(w.Guards) == 0 && inPath(w.Key) {
		send = s.put
	}
	m := s.history.mark()
	res, sent, err := do(ctx, s, func(ctx context.Context) (driver.Result, error) { return send(ctx, w, m) })
	if err == nil {
		return res, nil
	}
	res = driver.Result{Outcome: driver.Unknown}
	if !sent || notApplied(err) {
		res.Outcome = driver.NotApplied
	}
	return res, s.wrap(ctx, err)
}

// tooLargeForTxn reports whether a transaction with w would be refused. Its
// limit is kv_max_value_size too, or txn_max_req_len if that is more
// (agent/txn_endpoint.go, convertOps).
func (s *store) tooLargeForTxn(w driver.Swap) bool {
	if w.Remove || len(w.Value) <= s.limits.GuardedValue && len(w.Key) <= maxKey {
		return false
	}
	return bodySize(s.cfg.swapOps(w), w.Value) > s.cfg.MaxValueSize
}

// swapOps returns the operations of a transaction; the guards are the first.
func (c Config) swapOps(w driver.Swap) api.TxnOps {
	ops := c.guardOps(w.Guards)
	if w.Remove {
		// delete-cas of an absent key succeeds.
		return append(ops, c.op(api.KVCheckIndex, w.Key, w.Prev.Version), c.op(api.KVDeleteCAS, w.Key, w.Prev.Version))
	}
	write := c.op(api.KVCAS, w.Key, w.Prev.Version) // at index 0: of an absent key
	write.KV.Value, write.KV.Flags = w.Value, w.ID
	return append(ops, write)
}

func (s *store) swapInTxn(ctx context.Context, w driver.Swap, m mark) (driver.Result, error) {
	ops := s.cfg.swapOps(w)
	ok, resp, err := s.transact(ctx, ops, api.QueryOptions{})
	switch {
	case err != nil:
		return driver.Result{}, err
	case !ok:
		return whyNotSwapped(resp.Errors, w)
	case w.Remove:
		gone := driver.Entry{Key: w.Key, Generation: m.gen}
		return driver.Result{Outcome: driver.Applied, Entry: gone, Known: true}, nil
	}
	res := driver.Result{Outcome: driver.Applied}
	if pair := resultFor(resp, len(ops), w.Key); pair != nil {
		gen := m.gen
		switch index := pair.ModifyIndex; {
		case index == uint64(w.Prev.Version): // the same write again changed nothing
		case index <= m.high:
			gen = s.history.fell(m, index)
		default:
			gen = s.history.saw(m, index)
		}
		res.Entry, res.Known = entryOf(pair, gen), true
		res.Entry.Value = w.Value
	}
	return res, nil
}

// whyNotSwapped tells what a transaction was rolled back for.
func whyNotSwapped(errs api.TxnErrors, w driver.Swap) (driver.Result, error) {
	if guardBroken(errs, len(w.Guards)) {
		return driver.Result{Outcome: driver.GuardBroken}, nil
	}
	expected := func(op *api.TxnError) bool { return isStale(op.What) || w.Remove && isCheckFailure(op.What) }
	for _, op := range errs {
		if !expected(op) {
			return driver.Result{}, &txnError{errs}
		}
	}
	if len(errs) == 0 {
		return driver.Result{}, &txnError{}
	}
	return driver.Result{Outcome: driver.Conflict}, nil
}

// put writes with "PUT ?cas=". Consul doesn't answer with the new index.
func (s *store) put(ctx context.Context, w driver.Swap, _ mark) (driver.Result, error) {
	pair := &api.KVPair{Key: w.Key, Value: w.Value, Flags: w.ID, ModifyIndex: uint64(w.Prev.Version)}
	ok, _, err := s.kv.CAS(pair, (&api.WriteOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return driver.Result{}, err
	case ok:
		return driver.Result{Outcome: driver.Applied}, nil
	}
	return driver.Result{Outcome: driver.Conflict}, nil
}

// Resolve implements driver.Resolver. The Flags say whose write the key's last
// one was.
//
// A removal leaves none. But a key that was created at or before Prev.Version
// and lives was not removed since, and a removal can only be applied to the
// key at Prev.Version, an index that it has left for ever.
func (s *store) Resolve(w driver.Swap, now driver.Entry) driver.Outcome {
	cur, ok := now.Meta.(*meta)
	if !ok {
		return driver.Unknown
	}
	if !w.Remove {
		if cur.flags == w.ID {
			return driver.Applied
		}
		return driver.Unknown
	}
	if w.Prev.Generation == now.Generation && now.Version > w.Prev.Version && cur.created <= uint64(w.Prev.Version) {
		return driver.NotApplied
	}
	return driver.Unknown
}
