package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

// keepAlives renews all leases of a store on one stream, as the etcd client does
// too: a stream for each renewal costs the server twice as much. The server
// answers in the order in which it was asked.
type keepAlives struct {
	store *store

	mu      sync.Mutex
	current *keepAliveStream // that takes requests; nil: the next one opens another
}

// keepAliveStream is one stream. Its fields are guarded by keepAlives.mu.
type keepAliveStream struct {
	*keepAlives
	cancel  context.CancelFunc
	kick    chan struct{} // holds a value while there may be something to send
	unsent  []int64
	asked   []*renewal // what isn't answered yet, in order
	awaited int        // how many of these somebody waits for
}

type renewal struct {
	lease  int64
	answer chan renewed // has room for it
	over   bool         // it was answered, or nobody waits any more
}

type renewed struct {
	resp *pb.LeaseKeepAliveResponse
	err  error
}

// errOthers tells a renewal that its stream ended with the refusal of another one.
var errOthers = errors.New("another renewal was refused")

// renew asks for one renewal and waits for its answer. ctx has the metadata with
// which a stream is opened, if it takes one. Whoever waits in vain leaves the
// stream to those that wait on it still; the next renewal opens another.
func (k *keepAlives) renew(ctx context.Context, lease int64) (*pb.LeaseKeepAliveResponse, error) {
	r := &renewal{lease: lease, answer: make(chan renewed, 1)}
	k.mu.Lock()
	if k.store.base.Err() != nil {
		k.mu.Unlock()
		return nil, driver.ErrClosed
	}
	if k.current == nil {
		k.open(ctx)
	}
	s := k.current
	s.asked, s.unsent = append(s.asked, r), append(s.unsent, lease)
	s.awaited++
	wait.Signal(s.kick)
	k.mu.Unlock()
	select {
	case got := <-r.answer:
		if errors.Is(got.err, errOthers) {
			return k.renew(ctx, lease)
		}
		return got.resp, got.err
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && k.current == s {
		k.current = nil
	}
	s.settle(r, renewed{})
	return nil, ctx.Err()
}

// open begins a stream; k.mu is held.
func (k *keepAlives) open(of context.Context) {
	md, _ := metadata.FromOutgoingContext(of)
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(k.store.base, md))
	s := &keepAliveStream{keepAlives: k, cancel: cancel, kick: make(chan struct{}, 1)}
	k.current = s
	k.store.tasks.Go(func() { s.run(ctx) })
}

// run is the life of a stream. Its end answers all that wait. A refusal, with which
// the server ends it, is meant for the first of them.
func (s *keepAliveStream) run(ctx context.Context) {
	defer s.cancel()
	stream, err := s.store.leases.LeaseKeepAlive(ctx, s.store.opts...)
	if err == nil {
		s.store.tasks.Go(func() { s.send(ctx, stream) })
		err = s.receive(stream)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == s {
		s.current = nil
	}
	for _, r := range s.asked {
		s.settle(r, renewed{err: err})
		if errors.Is(rpctypes.Error(err), rpctypes.ErrPermissionDenied) {
			err = errOthers
		}
	}
}

// send sends what is asked for. A failure is told by receive, with its reason.
func (s *keepAliveStream) send(ctx context.Context, stream pb.Lease_LeaseKeepAliveClient) {
	for {
		select {
		case <-s.kick:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		leases := s.unsent
		s.unsent = nil
		s.mu.Unlock()
		for _, lease := range leases {
			if stream.Send(&pb.LeaseKeepAliveRequest{ID: lease}) != nil {
				return
			}
		}
	}
}

// receive hands out answers until the stream ends.
func (s *keepAliveStream) receive(stream pb.Lease_LeaseKeepAliveClient) error {
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		s.mu.Lock()
		if len(s.asked) == 0 || s.asked[0].lease != resp.ID {
			s.mu.Unlock()
			return fmt.Errorf("the renewal of lease %x was answered out of turn", resp.ID)
		}
		r := s.asked[0]
		s.asked = s.asked[1:]
		s.settle(r, renewed{resp: resp})
		s.mu.Unlock()
	}
}

// settle answers r unless that was done, and ends a stream that takes no more
// requests and that nobody waits on; s.mu is held.
func (s *keepAliveStream) settle(r *renewal, with renewed) {
	if !r.over {
		r.over = true
		s.awaited--
		r.answer <- with
	}
	if s.awaited == 0 && s.current != s {
		s.cancel()
	}
}

// close returns when no further stream can begin; the store's context is done.
func (k *keepAlives) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = nil
}
