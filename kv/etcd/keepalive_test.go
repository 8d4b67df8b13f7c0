package etcd

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// streams is a lease client that keeps the streams it opened.
type streams struct {
	pb.LeaseClient
	alter func(*pb.LeaseKeepAliveResponse) // what is answered, unless nil

	mu     sync.Mutex
	opened []context.Context // done when the stream has ended
}

type alteredStream struct {
	pb.Lease_LeaseKeepAliveClient
	alter func(*pb.LeaseKeepAliveResponse)
}

func (s *streams) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	s.mu.Lock()
	s.opened = append(s.opened, ctx)
	s.mu.Unlock()
	stream, err := s.LeaseClient.LeaseKeepAlive(ctx, opts...)
	return alteredStream{stream, s.alter}, err
}

func (s alteredStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	resp, err := s.Lease_LeaseKeepAliveClient.Recv()
	if err == nil && s.alter != nil {
		s.alter(resp)
	}
	return resp, err
}

func (s *streams) all() []context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// leasing opens a store whose streams for renewals are kept, over a line of its own.
func leasing(t *testing.T) (*store, *streams, *testserver.Proxy) {
	t.Helper()
	proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
	cfg := DefaultConfig()
	cfg.Endpoints = []string{proxy.Addr()}
	s := open(t, cfg)
	kept := &streams{LeaseClient: s.leases}
	s.leases = kept
	return s, kept, proxy
}

func grant(t *testing.T, s *store) driver.LeaseID {
	t.Helper()
	g, err := s.Grant(drivertest.WithTimeout(t, time.Minute), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return g.ID
}

// All leases are renewed on one stream, and one that is over ends none of the
// others.
func TestRenewalsShareAStream(t *testing.T) {
	s, kept, _ := leasing(t)
	ctx := drivertest.WithTimeout(t, time.Minute)
	leases := make([]driver.LeaseID, 50)
	for i := range leases {
		leases[i] = grant(t, s)
	}
	if err := s.Revoke(ctx, leases[7]); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var all sync.WaitGroup
		for i, id := range leases {
			all.Go(func() {
				if err := s.Renew(ctx, id); i != 7 && err != nil || i == 7 && !errors.Is(err, driver.ErrLeaseLost) {
					t.Errorf("lease %d: %v", i, err)
				}
			})
		}
		all.Wait()
	}
	if n := len(kept.all()); n != 1 {
		t.Errorf("%d streams", n)
	}
}

// The answer that comes when nobody waits for it any more is none to the next
// renewal of the same lease, which it would make last longer than the server
// says.
func TestAnswerToARenewalThatWasGivenUp(t *testing.T) {
	s, kept, _ := leasing(t)
	id := grant(t, s)
	arrived, release := make(chan struct{}), make(chan struct{})
	first := true
	kept.alter = func(resp *pb.LeaseKeepAliveResponse) {
		if first {
			first, resp.TTL = false, 0
			close(arrived)
			<-release
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() { given <- s.Renew(ctx, id) }()
	<-arrived
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that was given up returned %v", err)
	}
	go func() { given <- s.Renew(drivertest.WithTimeout(t, time.Minute), id) }()
	drivertest.Eventually(t, func() error {
		s.keepAlives.mu.Lock()
		defer s.keepAlives.mu.Unlock()
		if len(s.keepAlives.current.asked) != 2 {
			return errors.New("the second renewal wasn't asked for")
		}
		return nil
	})
	close(release)
	if err := <-given; err != nil {
		t.Errorf("the next one got another's answer: %v", err)
	}
	if n := len(kept.all()); n != 1 {
		t.Errorf("%d streams", n)
	}
}

// A stream that hangs costs each renewal its own time at most: those that wait on
// it get their answers when it goes on, and the next one opens another.
func TestStreamOfRenewalsThatHangs(t *testing.T) {
	s, kept, proxy := leasing(t)
	id, other := grant(t, s), grant(t, s)
	ctx := drivertest.WithTimeout(t, time.Minute)
	if err := s.Renew(ctx, id); err != nil {
		t.Fatal(err)
	}
	proxy.Hang()
	waits := make(chan error)
	go func() { waits <- s.Renew(ctx, other) }()
	drivertest.Eventually(t, func() error {
		s.keepAlives.mu.Lock()
		defer s.keepAlives.mu.Unlock()
		if s.keepAlives.current.awaited != 1 {
			return errors.New("the one that waits hasn't asked")
		}
		return nil
	})
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := s.Renew(short, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("on a line that hangs: %v", err)
	}
	if err := kept.all()[0].Err(); err != nil {
		t.Errorf("one that gave up ended the stream of another: %v", err)
	}
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
	if err := s.Renew(ctx, id); err != nil {
		t.Error(err)
	}
	all := kept.all()
	if len(all) != 2 || all[1].Err() != nil {
		t.Errorf("%d streams, the last one ended by %v", len(all), all[len(all)-1].Err())
	}
	<-all[0].Done() // nobody waits on it any more
}

// A stream that breaks is followed by another.
func TestStreamOfRenewalsThatBreaks(t *testing.T) {
	s, kept, proxy := leasing(t)
	id := grant(t, s)
	ctx := drivertest.WithTimeout(t, time.Minute)
	if err := s.Renew(ctx, id); err != nil {
		t.Fatal(err)
	}
	proxy.Reset()
	drivertest.Eventually(t, func() error { return s.Renew(ctx, id) })
	all := kept.all()
	if len(all) < 2 {
		t.Errorf("%d streams", len(all))
	}
	<-all[0].Done()
}

// A renewal that waits doesn't outlive the store.
func TestRenewalWhenTheStoreIsClosed(t *testing.T) {
	s, _, proxy := leasing(t)
	id := grant(t, s)
	ctx := drivertest.WithTimeout(t, time.Minute)
	if err := s.Renew(ctx, id); err != nil {
		t.Fatal(err)
	}
	proxy.Hang()
	waits := make(chan error)
	go func() { waits <- s.Renew(ctx, id) }()
	drivertest.Eventually(t, func() error {
		s.keepAlives.mu.Lock()
		defer s.keepAlives.mu.Unlock()
		if s.keepAlives.current.awaited != 1 {
			return errors.New("it hasn't asked")
		}
		return nil
	})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waits; !errors.Is(err, driver.ErrClosed) {
		t.Errorf("the one that waited: %v", err)
	}
	if err := s.Renew(ctx, id); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
}

// A stream whose token is refused is opened again with another. The server looks
// when keys are attached.
func TestRenewalWithARefusedToken(t *testing.T) {
	c := secured.Get(t)
	s := open(t, configAs(c, c.User(), c.Password()))
	id, key := grant(t, s), drivertest.Unique(t)
	drivertest.Swap(t, s, driver.Swap{Key: key, Value: []byte("v"), Lease: id}, driver.Applied)
	refused := newSession("no-such-token")
	s.logins.current.Store(refused)
	if err := s.Renew(drivertest.WithTimeout(t, time.Minute), id); err != nil {
		t.Error(err)
	}
	if s.logins.current.Load() == refused {
		t.Error("the server never saw the token")
	}
}

// The server ends the stream when it refuses a renewal: the user may not write what
// somebody else attached to the lease. Those that wait behind it are renewed.
func TestRefusedRenewalIsNobodyElses(t *testing.T) {
	c := secured.Get(t)
	name := "renews-" + drivertest.Unique(t)
	if err := c.AddUser(t.Context(), name, "pw", testserver.Permission{Prefix: name, Read: true, Write: true}); err != nil {
		t.Fatal(err)
	}
	proxy := servertest.Proxy(t, c.Endpoints()[0])
	cfg := configAs(c, name, "pw")
	cfg.Endpoints = []string{proxy.Addr()}
	s := open(t, cfg)
	refused, others := grant(t, s), []driver.LeaseID{grant(t, s), grant(t, s)}
	ctx := drivertest.WithTimeout(t, time.Minute)
	if err := s.Renew(ctx, refused); err != nil {
		t.Fatal(err)
	}
	root := open(t, configAs(c, c.User(), c.Password()))
	drivertest.Swap(t, root, driver.Swap{Key: drivertest.Unique(t), Value: []byte("v"), Lease: refused}, driver.Applied)
	proxy.Hang()
	ask := func(id driver.LeaseID, awaited int) <-chan error {
		answer := make(chan error, 1)
		go func() { answer <- s.Renew(ctx, id) }()
		drivertest.Eventually(t, func() error {
			s.keepAlives.mu.Lock()
			defer s.keepAlives.mu.Unlock()
			if s.keepAlives.current.awaited != awaited {
				return errors.New("it hasn't asked")
			}
			return nil
		})
		return answer
	}
	first, second, third := ask(refused, 1), ask(others[0], 2), ask(others[1], 3)
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	if err := <-first; !errors.Is(err, driver.ErrPermission) {
		t.Errorf("the one that is refused: %v", err)
	}
	if err := errors.Join(<-second, <-third); err != nil {
		t.Errorf("those behind it: %v", err)
	}
}
