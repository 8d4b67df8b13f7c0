package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/polykv/polykv/kv/driver"
)

// position is a driver.Position: the keys of a range at a revision.
type position struct {
	gen    uint64 // of the history
	term   uint64 // of the servers, which is never lower later
	rev    int64
	newest int64 // revision of the last write at or before rev to a key that exists at rev
	count  int64 // how many keys exist at rev
}

// Covers implements driver.Position. If nothing that exists at the other
// position was written since p, and as many keys exist at both, they are the
// same keys: each that is there was there, and no other was.
func (p *position) Covers(other driver.Position) bool {
	o, ok := other.(*position)
	return ok && p.gen == o.gen && (p.rev >= o.rev || p.rev >= o.newest && p.count == o.count)
}

// Locate implements driver.Locator by numbers that the server has in its index:
// how many keys there are and, if the revision is another than that of from,
// which of them was written last.
func (s *store) Locate(ctx context.Context, r driver.Range, from driver.Position) (driver.Position, error) {
	p, _ := from.(*position)
	at, err := s.locate(ctx, r, p)
	if err != nil {
		return nil, err
	}
	return at, nil
}

func (s *store) locate(ctx context.Context, r driver.Range, from *position) (*position, error) {
	req := &pb.RangeRequest{Key: s.cfg.name(r.Key), CountOnly: true}
	if r.IsPrefix {
		req.Key, req.RangeEnd = s.interval(r.Key, "")
	}
	if from == nil {
		from = &position{}
	} else if at, err := s.standing(ctx, req); err != nil || at.gen != from.gen || at.rev <= from.rev {
		return at, err
	}
	// etcd 3.7 answers this from its index, older ones read the values of the
	// range, too. It is asked only if there were writes, of this range or others.
	req.CountOnly, req.KeysOnly, req.Limit = false, true, 1
	req.SortTarget, req.SortOrder = pb.RangeRequest_MOD, pb.RangeRequest_DESCEND
	req.MinModRevision = from.rev + 1
	return s.standing(ctx, req)
}

// standing makes a position of an answer. What the answer has no key for was
// written before.
func (s *store) standing(ctx context.Context, req *pb.RangeRequest) (*position, error) {
	resp, gen, err := s.rangeKeys(ctx, req)
	if err != nil {
		return nil, err
	}
	at := &position{gen: gen, term: resp.Header.GetRaftTerm(), rev: resp.Header.GetRevision(), count: resp.Count}
	switch {
	case req.CountOnly:
		at.newest = at.rev
	case len(resp.Kvs) > 0: // else it was written before, or all are gone
		at.newest = resp.Kvs[0].ModRevision
	}
	return at, nil
}
