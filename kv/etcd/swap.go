package etcd

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// Swap implements driver.Store with one transaction.
func (s *store) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	m := s.history.Mark()
	req := s.cfg.swapRequest(w)
	sent := false
	resp, err := call(ctx, s.logins, false, func(ctx context.Context) (*pb.TxnResponse, error) {
		// gRPC fills in the peer once a transport took the call on. Without
		// one nothing was written to any connection.
		var to peer.Peer
		resp, err := s.kv.Txn(ctx, req, append(s.opts[:len(s.opts):len(s.opts)], grpc.Peer(&to))...)
		sent = to.Addr != nil
		return resp, err
	})
	if err != nil {
		res := driver.Result{Outcome: driver.Unknown}
		if !sent || notApplied(err) || isLeaseLost(err) {
			res.Outcome = driver.NotApplied
		}
		if errors.Is(rpctypes.Error(err), rpctypes.ErrNoSpace) {
			res = s.whenFull(ctx, w, m)
		}
		return res, s.wrapLease(ctx, err)
	}
	// An answer that belongs to no known history still says what happened,
	// but nothing in it may be remembered.
	gen, historyErr := s.history.Observe(m, answer(resp.Header, true))
	res := swapResult(w, resp, gen)
	if historyErr != nil {
		res.Known, res.Entry = false, driver.Entry{}
	}
	return res, nil
}

// whenFull finds out what became of a swap that began at m and was answered
// with "database space exceeded". A server says so before it proposes a
// transaction, and then it is never applied; but also of the one that crossed
// the line, after it was applied (etcdserver/apply/quota.go). In both cases it
// is over: what a read finds now is final. That no key is there proves nothing
// if there were writes meanwhile, one of which may have removed it.
func (s *store) whenFull(ctx context.Context, w driver.Swap, m kit.Mark) driver.Result {
	now, rev, err := s.get(ctx, w.Key, false)
	switch {
	case err != nil || now.Generation != m.Gen:
	case now.Version == w.Prev.Version && (now.Exists() || rev == int64(m.High)), s.Resolve(w, now) == driver.NotApplied:
		return driver.Result{Outcome: driver.NotApplied}
	}
	return driver.Result{Outcome: driver.Unknown}
}

func (c Config) swapRequest(w driver.Swap) *pb.TxnRequest {
	req := &pb.TxnRequest{
		Compare: []*pb.Compare{c.atVersion(w.Key, w.Prev.Version)},
		Success: []*pb.RequestOp{c.writeOp(w)},
		Failure: []*pb.RequestOp{c.getOp(w.Key, false)},
	}
	for _, g := range w.Guards {
		req.Compare = append(req.Compare, c.atVersion(g.Key, g.Version))
		req.Failure = append(req.Failure, c.getOp(g.Key, true))
	}
	return req
}

func swapResult(w driver.Swap, resp *pb.TxnResponse, gen uint64) driver.Result {
	if resp.Succeeded {
		return driver.Result{Outcome: driver.Applied, Entry: written(w, resp.Header.Revision, gen), Known: true}
	}
	for i, g := range w.Guards {
		if now := entryOf(g.Key, resp.Responses[1+i].GetResponseRange(), gen); now.Version != g.Version {
			return driver.Result{Outcome: driver.GuardBroken}
		}
	}
	current := entryOf(w.Key, resp.Responses[0].GetResponseRange(), gen)
	return driver.Result{Outcome: driver.Conflict, Entry: current, Known: true}
}

// written is the entry that w left behind at revision rev.
func written(w driver.Swap, rev int64, gen uint64) driver.Entry {
	e := driver.Entry{Key: w.Key, Generation: gen}
	if w.Remove {
		return e
	}
	e.Value, e.Version = w.Value, driver.Version(rev)
	if w.Prev.Version == 0 {
		e.Meta = &meta{created: rev, writes: 1}
	} else if prev, ok := w.Prev.Meta.(*meta); ok {
		e.Meta = &meta{created: prev.created, writes: prev.writes + 1}
	}
	return e
}

// Resolve implements driver.Resolver. w can only ever be applied to the key
// at Prev.Version, a revision that no later write repeats; now is not at it,
// so w is applied already or never will be. It would have been the first
// write after Prev.
//
// If the key was created at or before Prev.Version and lives, it is the same
// key that Prev saw, not removed in between. Then a removal was not applied,
// and etcd's counter of writes to the key tells how many there were: if it was
// exactly one and its bytes are not those of w, w was not that one.
//
// With more writes, the first may have been w. If the key was removed in
// between, it may have been removed after w, or by w. A key that was absent may
// have been created by w, removed, and created by another.
func (s *store) Resolve(w driver.Swap, now driver.Entry) driver.Outcome {
	prev, ok1 := w.Prev.Meta.(*meta)
	cur, ok2 := now.Meta.(*meta)
	sameHistory := w.Prev.Generation == now.Generation && now.Version > w.Prev.Version
	if !ok1 || !ok2 || !sameHistory || cur.created > int64(w.Prev.Version) {
		return driver.Unknown
	}
	if w.Remove || (cur.writes == prev.writes+1 && !bytes.Equal(now.Value, w.Value)) {
		return driver.NotApplied
	}
	return driver.Unknown
}

// atVersion compares ModRevision, which is 0 for an absent key.
func (c Config) atVersion(key string, v driver.Version) *pb.Compare {
	return &pb.Compare{
		Key:         c.name(key),
		Target:      pb.Compare_MOD,
		Result:      pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: int64(v)},
	}
}

func (c Config) writeOp(w driver.Swap) *pb.RequestOp {
	if w.Remove {
		del := &pb.DeleteRangeRequest{Key: c.name(w.Key)}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}}
	}
	put := &pb.PutRequest{Key: c.name(w.Key), Value: w.Value, Lease: leaseOf(w.Lease)}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
}

func (c Config) getOp(key string, keysOnly bool) *pb.RequestOp {
	get := &pb.RangeRequest{Key: c.name(key), KeysOnly: keysOnly}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: get}}
}
