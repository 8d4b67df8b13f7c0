package etcd

import (
	"context"
	"errors"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/polykv/polykv/kv/driver"
)

// errWatchEnded: the watch was closed without a reason.
var errWatchEnded = errors.New("the watch ended")

// Watch implements driver.Store: all keys at one revision, then what the
// server reports from the next one on.
func (s *store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	m := s.history.mark()
	rev, gen, err := s.emitSnapshot(ctx, req.Range, emit)
	if err != nil {
		return err
	}
	emit(driver.Event{Type: driver.Synced, Entry: driver.Entry{Generation: gen}})
	ses, err := s.logins.session(ctx, nil)
	if err != nil {
		return s.wrap(ctx, err)
	}
	// Watches share a stream if their metadata is the same, and the stream
	// keeps the values of its first watch's context: pass on none of ctx's.
	wctx, cancel := context.WithCancel(ses.outgoing(s.base, false))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	watch := s.watcher.Watch(wctx, req.Range.Key, watchOptions(req.Range, rev+1)...)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.ended:
			return errHistoryChanged
		case resp, ok := <-watch:
			if err := watchError(&resp, ok); err != nil {
				if tokenRefused(err) {
					_, _ = s.logins.session(ctx, ses) // the next session's first call would not notice
				}
				return s.wrap(ctx, err)
			}
			if now, err := s.history.observe(resp.Header, m, false); err != nil || now != gen {
				return errHistoryChanged
			}
			emitEvents(resp.Events, gen, emit)
		}
	}
}

func (s *store) emitSnapshot(ctx context.Context, r driver.Range, emit func(driver.Event)) (rev int64, gen uint64, err error) {
	if !r.IsPrefix {
		e, rev, err := s.get(ctx, &pb.RangeRequest{Key: []byte(r.Key)})
		if err == nil && e.Exists() {
			emit(driver.Event{Type: driver.Put, Entry: e})
		}
		return rev, e.Generation, err
	}
	req := driver.ScanRequest{Prefix: r.Key}
	for {
		page, err := s.Scan(ctx, req)
		if err != nil {
			return 0, 0, err
		}
		for _, e := range page.Entries {
			emit(driver.Event{Type: driver.Put, Entry: e})
			req.After = e.Key
		}
		req.Snapshot = page.Snapshot
		if !page.More {
			return page.Snapshot.(*snapshot).rev, page.Generation, nil
		}
	}
}

func watchOptions(r driver.Range, from int64) []clientv3.OpOption {
	opts := []clientv3.OpOption{clientv3.WithRev(from), clientv3.WithFragment(), clientv3.WithProgressNotify()}
	if r.IsPrefix {
		opts = append(opts, clientv3.WithPrefix())
	}
	return opts
}

func emitEvents(events []*mvccpb.Event, gen uint64, emit func(driver.Event)) {
	for _, ev := range events {
		if ev.Type == mvccpb.Event_DELETE {
			emit(driver.Event{Type: driver.Delete, Entry: driver.Entry{Key: string(ev.Kv.Key), Generation: gen}})
			continue
		}
		emit(driver.Event{Type: driver.Put, Entry: existing(ev.Kv, gen)})
	}
}

// watchError returns why a watch ended, if resp says that it did.
func watchError(resp *clientv3.WatchResponse, open bool) error {
	if !open {
		return errWatchEnded
	}
	err := resp.Err()
	var lost lostStream
	if errors.As(err, &lost) {
		return lost.err
	}
	if err != nil {
		// Refusals come as the text of a gRPC error.
		_, desc, _ := strings.Cut(err.Error(), " desc = ")
		if known := rpctypes.Error(errors.New(desc)); errors.As(known, new(rpctypes.EtcdError)) {
			return known
		}
	}
	return err
}

// watchClient stands between the etcd client's watcher and gRPC and makes the
// failure of a stream the end of its watches. By itself the watcher opens
// another stream and resumes, which leaves its users to believe that they are
// up to date while no server is in reach, and waits for ever for the next
// revision of a cluster that was set back.
type watchClient struct{ pb.WatchClient }

func (c watchClient) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	stream, err := c.WatchClient.Watch(ctx, append(opts[:len(opts):len(opts)], grpc.WaitForReady(false))...)
	if err != nil {
		return nil, lostStream{err}
	}
	return watchStream{stream}, nil
}

type watchStream struct{ pb.Watch_WatchClient }

func (s watchStream) Recv() (*pb.WatchResponse, error) {
	resp, err := s.Watch_WatchClient.Recv()
	if err != nil {
		return nil, lostStream{err}
	}
	return resp, nil
}

// lostStream hides the gRPC code of err, which is what the watcher goes by:
// it gives up on errors without one.
type lostStream struct{ err error }

func (e lostStream) Error() string { return e.err.Error() }
