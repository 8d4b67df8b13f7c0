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
	"github.com/polykv/polykv/kv/driver/kit"
)

// errWatchEnded: the watch was closed without a reason.
var errWatchEnded = errors.New("the watch ended")

// Watch implements driver.Store: all keys at one revision, then what the
// server reports from the next one on. From a position it goes on without the
// keys, as long as the server has the history since then.
func (s *store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	w := watch{store: s, of: req.Range, emit: emit}
	if from, ok := req.Position.(*position); ok {
		err := w.resume(ctx, from)
		if ctx.Err() != nil || !kit.IsAny(err, errOtherHistory, rpctypes.ErrCompacted) {
			return err
		}
		if w.resumed {
			emit(driver.Event{Type: driver.Restart})
		}
	}
	if req.BeforeSnapshot != nil {
		if err := req.BeforeSnapshot(ctx); err != nil {
			return err
		}
	}
	w.mark, w.goal, w.at = s.history.Mark(), nil, position{}
	if err := w.snapshot(ctx); err != nil {
		return err
	}
	return w.follow(ctx)
}

// errOtherHistory: the keys at a position are not those that the store had.
var errOtherHistory = errors.New("the position is of another history")

// watch is one session of a watch.
type watch struct {
	store   *store
	of      driver.Range
	emit    func(driver.Event)
	mark    kit.Mark // what was known when it began
	resumed bool
	at      position  // what was emitted
	goal    *position // that a resumed session must reach to be in step; nil: none
}

// resume goes on from a position.
func (w *watch) resume(ctx context.Context, from *position) error {
	w.mark = w.store.history.Mark()
	goal, err := w.store.locate(ctx, w.of, from)
	if err != nil {
		return err
	}
	if goal.gen != from.gen || goal.term < from.term {
		return errOtherHistory
	}
	w.at, w.goal, w.resumed = *from, goal, true
	w.emit(driver.Event{Type: driver.Resumed})
	w.reached()
	return w.follow(ctx)
}

// reached says Synced once all has been emitted that was there in the beginning.
func (w *watch) reached() {
	if w.goal != nil && w.at.Covers(w.goal) {
		w.at.rev, w.goal = max(w.at.rev, w.goal.rev), nil
		w.tell(driver.Event{Type: driver.Synced, Entry: driver.Entry{Generation: w.at.gen}})
	}
}

// tell emits an event up to which everything has been emitted.
func (w *watch) tell(ev driver.Event) {
	at := w.at
	ev.Position = &at
	w.emit(ev)
}

// snapshot emits all keys, of one revision.
func (w *watch) snapshot(ctx context.Context) error {
	rev, gen, err := w.store.emitSnapshot(ctx, w.of, func(ev driver.Event) {
		w.at.count++
		w.emit(ev)
	})
	if err != nil {
		return err
	}
	w.at.rev, w.at.newest, w.at.gen = rev, rev, gen
	w.tell(driver.Event{Type: driver.Synced, Entry: driver.Entry{Generation: gen}})
	return nil
}

// follow emits what happens after w.at.
func (w *watch) follow(ctx context.Context) error {
	s := w.store
	ses, err := s.logins.session(ctx, nil)
	if err != nil {
		return s.wrap(ctx, err)
	}
	// Watches share a stream if their metadata is the same, and the stream
	// keeps the values of its first watch's context: pass on none of ctx's.
	wctx, cancel := context.WithCancel(ses.outgoing(s.base, false))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	watch := s.watcher.Watch(wctx, s.cfg.Root.In(w.of.Key), watchOptions(w.of, w.at.rev+1)...)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.mark.Ended:
			return kit.ErrHistoryChanged
		case resp, ok := <-watch:
			if err := watchError(&resp, ok); err != nil {
				if tokenRefused(err) {
					_, _ = s.logins.session(ctx, ses) // the next session's first call would not notice
				}
				return s.wrap(ctx, err)
			}
			// Field by field: a struct in etcd's client 3.6, a pointer in 3.7.
			h := kit.Answer{Index: uint64(resp.Header.GetRevision()), Cluster: resp.Header.GetClusterId(), Member: resp.Header.GetMemberId(), Term: resp.Header.GetRaftTerm()}
			if now, err := s.history.Observe(w.mark, h); err != nil || now != w.at.gen {
				return kit.ErrHistoryChanged
			}
			w.at.term = max(w.at.term, resp.Header.GetRaftTerm())
			for i, ev := range resp.Events {
				w.change(ev.Type == clientv3.EventTypeDelete, ev.Kv, i == len(resp.Events)-1)
			}
		}
	}
}

// change emits what an event tells. The type of events is another in each of
// the etcd client's versions, that of what is in them is not. Only the last
// event of an answer surely ends a revision.
func (w *watch) change(deleted bool, kv *mvccpb.KeyValue, last bool) {
	ev := driver.Event{Type: driver.Put}
	switch {
	case deleted:
		w.at.count--
		ev.Type, ev.Entry = driver.Delete, driver.Entry{Key: w.store.cfg.key(kv.Key), Generation: w.at.gen}
	default:
		if kv.CreateRevision == kv.ModRevision {
			w.at.count++
		}
		ev.Entry = existing(w.store.cfg.key(kv.Key), kv, w.at.gen)
	}
	if !last {
		w.emit(ev)
		return
	}
	w.at.rev, w.at.newest = kv.ModRevision, kv.ModRevision
	w.tell(ev)
	w.reached()
}

func (s *store) emitSnapshot(ctx context.Context, r driver.Range, emit func(driver.Event)) (rev int64, gen uint64, err error) {
	if !r.IsPrefix {
		e, rev, err := s.get(ctx, r.Key, false)
		if err == nil && e.Exists() {
			emit(e.Event())
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
			emit(e.Event())
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
