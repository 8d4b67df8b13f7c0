package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

const (
	// etcd limits a page by keys only, and values may be 1.5 MiB each: the
	// first page of values is small and the others aim at so many bytes.
	firstPage = 64
	pageBytes = 8 << 20
)

// snapshot is what driver.Page.Snapshot holds.
type snapshot struct {
	rev   int64
	gen   uint64
	limit int // a good size for the next page of values
}

// Scan implements driver.Store. All pages show the store at the revision of
// the first one.
func (s *store) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	snap, later := req.Snapshot.(*snapshot)
	if !later {
		snap = &snapshot{limit: firstPage}
	}
	limit := s.cfg.ScanPageSize
	if !req.KeysOnly {
		limit = min(limit, snap.limit)
	}
	if req.Limit > 0 {
		limit = min(limit, req.Limit)
	}
	from, end := s.interval(req.Prefix, req.After)
	wanted := &pb.RangeRequest{
		Key:          from,
		RangeEnd:     end,
		Revision:     snap.rev,
		Limit:        int64(limit),
		KeysOnly:     req.KeysOnly,
		Serializable: req.AllowStale && s.cfg.SerializableReads,
	}
	p, err := s.page(ctx, wanted, snap, req.Bare)
	if kit.IsAny(err, rpctypes.ErrCompacted, rpctypes.ErrFutureRev) {
		return driver.Page{}, fmt.Errorf("%w: %w", driver.ErrSnapshotLost, err)
	}
	if err != nil {
		return driver.Page{}, err
	}
	if later && p.Generation != snap.gen {
		return driver.Page{}, fmt.Errorf("%w: %w", driver.ErrSnapshotLost, kit.ErrHistoryChanged)
	}
	return p, nil
}

// after returns the snapshot of the pages behind one that was answered with h.
func (snap *snapshot) after(h *pb.ResponseHeader, gen uint64) *snapshot {
	next := &snapshot{rev: snap.rev, gen: gen, limit: snap.limit}
	if next.rev == 0 {
		next.rev = h.GetRevision()
	}
	return next
}

// page reads one page.
func (s *store) page(ctx context.Context, req *pb.RangeRequest, snap *snapshot, bare bool) (driver.Page, error) {
	resp, gen, err := s.rangeKeys(ctx, req)
	if err != nil {
		return driver.Page{}, err
	}
	next := snap.after(resp.Header, gen)
	p := driver.Page{More: resp.More, Snapshot: next, Generation: gen}
	if bare {
		p.Keys = make([]string, len(resp.Kvs))
		for i, kv := range resp.Kvs {
			p.Keys[i] = s.cfg.key(kv.Key)
		}
		return p, nil
	}
	p.Entries = make([]driver.Entry, len(resp.Kvs))
	size := 0
	for i, kv := range resp.Kvs {
		if req.KeysOnly {
			p.Entries[i] = driver.Entry{Key: s.cfg.key(kv.Key), Version: driver.Version(kv.ModRevision), Generation: gen}
			continue
		}
		p.Entries[i] = existing(s.cfg.key(kv.Key), kv, gen)
		size += len(kv.Key) + len(kv.Value)
	}
	if len(resp.Kvs) > 0 && !req.KeysOnly {
		next.limit = kit.PageSize(pageBytes, len(resp.Kvs), size)
	}
	return p, nil
}

// interval returns the interval in the store of the keys after after that begin
// with prefix.
func (s *store) interval(prefix, after string) (from, end []byte) {
	if after != "" {
		after = s.cfg.Root.In(after)
	}
	return interval(s.cfg.Root.In(prefix), after)
}

// interval returns the first key after after that begins with prefix, and the
// end of the prefix in etcd's form, where a zero byte is the end of all keys.
func interval(prefix, after string) (from, end []byte) {
	end = []byte(clientv3.GetPrefixRangeEnd(prefix))
	switch {
	case after != "" && after >= prefix:
		return []byte(after + "\x00"), end
	case prefix == "":
		return []byte{0}, end
	default:
		return []byte(prefix), end
	}
}
