package consul

import (
	"context"
	"errors"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// Swap implements driver.Store with one transaction, or "PUT ?cas=" for a
// value that is too large for one.
func (s *store) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if err := s.checkTenancy(ctx); err != nil {
		return driver.Result{Outcome: driver.NotApplied}, s.wrap(ctx, err)
	}
	send := s.swapInTxn
	if s.tooLargeForTxn(w) {
		may, err := s.mayPut(ctx, w)
		if err != nil {
			return driver.Result{Outcome: driver.NotApplied}, err
		}
		if may {
			send = s.put
		}
	}
	m := s.history.Mark()
	res, sent, err := do(ctx, s, func(ctx context.Context) (driver.Result, error) { return send(noticed(ctx), w, m) })
	if err == nil {
		return s.believe(ctx, w, res)
	}
	res = driver.Result{Outcome: driver.Unknown}
	if !sent || notApplied(err) || errors.Is(err, driver.ErrLeaseLost) {
		res.Outcome = driver.NotApplied
	}
	return res, s.wrap(ctx, err)
}

// believe looks, behind a proxy, whose write a conflict is with: a proxy may
// have sent this one before, and got no answer.
func (s *store) believe(ctx context.Context, w driver.Swap, res driver.Result) (driver.Result, error) {
	if !s.proxied || res.Outcome != driver.Conflict && res.Outcome != driver.GuardBroken {
		return res, nil
	}
	now, err := s.Get(ctx, driver.GetRequest{Key: w.Key})
	switch {
	case err != nil:
		return driver.Result{Outcome: driver.Unknown}, err
	case w.Remove && !now.Exists():
		return driver.Result{Outcome: driver.Unknown}, errors.New("the key is gone, and behind a proxy it can't be told who removed it")
	case s.Resolve(w, now) == driver.Applied:
		return driver.Result{Outcome: driver.Applied, Entry: now, Known: true}, nil
	case res.Outcome == driver.Conflict:
		res.Entry, res.Known = now, true
	}
	return res, nil
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
	return c.writeOps(ops, w)
}

func (s *store) swapInTxn(ctx context.Context, w driver.Swap, m kit.Mark) (driver.Result, error) {
	ops := s.cfg.swapOps(w)
	ok, resp, err := s.transact(ctx, ops, api.QueryOptions{})
	switch {
	case err != nil:
		return driver.Result{}, err
	case !ok:
		return whyNotSwapped(resp.Errors, w)
	case w.Remove:
		gone := driver.Entry{Key: w.Key, Generation: m.Gen}
		return driver.Result{Outcome: driver.Applied, Entry: gone, Known: true}, nil
	}
	res := driver.Result{Outcome: driver.Applied}
	if pair := s.resultFor(resp, results(ops), w.Key); pair != nil {
		a := kit.Answer{Index: pair.ModifyIndex, Evidence: kit.Written}
		if a.Index == uint64(w.Prev.Version) {
			a.Evidence = kit.Reached // the same write again changed nothing
		}
		// An answer that belongs to no known history still says what happened,
		// but nothing in it may be remembered.
		if gen, err := s.history.Observe(m, a); err == nil {
			res.Entry, res.Known = entryOf(w.Key, pair, gen), true
			res.Entry.Value = w.Value
		}
	}
	return res, nil
}

// whyNotSwapped tells what a transaction was rolled back for.
func whyNotSwapped(errs api.TxnErrors, w driver.Swap) (driver.Result, error) {
	if guardBroken(errs, len(w.Guards)) {
		return driver.Result{Outcome: driver.GuardBroken}, nil
	}
	stale := false
	for _, op := range errs {
		switch {
		case isStale(op.What), isCheckFailure(op.What):
			stale = true
		case !isLockFailure(op.What):
			return driver.Result{}, &txnError{errs}
		}
	}
	if !stale && isLeaseLost(errs) {
		return driver.Result{}, driver.ErrLeaseLost
	}
	if len(errs) == 0 {
		return driver.Result{}, &txnError{}
	}
	return driver.Result{Outcome: driver.Conflict}, nil
}

// put writes with "PUT ?cas=". Consul doesn't answer with the new index.
func (s *store) put(ctx context.Context, w driver.Swap, _ kit.Mark) (driver.Result, error) {
	pair := &api.KVPair{Key: s.cfg.Root.In(w.Key), Value: w.Value, Flags: w.ID, ModifyIndex: uint64(w.Prev.Version)}
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
	switch {
	case !ok:
	case !w.Remove && cur.flags == w.ID:
		return driver.Applied
	case w.Remove && w.Prev.Generation == now.Generation && now.Version > w.Prev.Version && cur.created <= uint64(w.Prev.Version):
		return driver.NotApplied
	}
	return driver.Unknown
}
