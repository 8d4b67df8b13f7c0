package etcd

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// requests is a watch client that hands on what it is asked for.
type requests struct {
	pb.WatchClient
	seen chan *pb.WatchCreateRequest
}

type requestStream struct {
	pb.Watch_WatchClient
	seen chan *pb.WatchCreateRequest
}

func (r requests) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	stream, err := r.WatchClient.Watch(ctx, opts...)
	return requestStream{stream, r.seen}, err
}

func (s requestStream) Send(req *pb.WatchRequest) error {
	if create := req.GetCreateRequest(); create != nil {
		s.seen <- create
	}
	return s.Watch_WatchClient.Send(req)
}

// A watch asks for large answers in pieces, and to be told how far it is.
func TestWhatAWatchAsksFor(t *testing.T) {
	s, p := openShared(t)
	seen := make(chan *pb.WatchCreateRequest, 1)
	_ = s.watcher.Close()
	s.watcher = clientv3.NewWatchFromWatchClient(watchClient{requests{pb.NewWatchClient(s.client.ActiveConnection()), seen}}, s.client)
	e := drivertest.Put(t, s, p+"k", "v")
	follow(t, s, driver.Range{Key: p, IsPrefix: true}).IsSynced(t)
	if req := <-seen; !req.Fragment || !req.ProgressNotify || req.StartRevision <= int64(e.Version) || string(req.Key) != p {
		t.Errorf("%v", req)
	}
}

// A watch whose token is refused doesn't leave that to the next session.
func TestWatchWithARefusedToken(t *testing.T) {
	c := secured.Get(t)
	s := open(t, configAs(c, c.User(), c.Password()))
	drivertest.Put(t, s, t.Name(), "v")
	refused := newSession("no-such-token")
	s.logins.current.Store(refused)
	w := watch{store: s, of: driver.Range{Key: t.Name()}, emit: func(driver.Event) {}, mark: s.history.Mark()}
	if err := w.follow(drivertest.WithTimeout(t, 20*time.Second)); !tokenRefused(err) {
		t.Errorf("it ended with %v", err)
	}
	if s.logins.current.Load() == refused {
		t.Error("the next session would show the same token")
	}
}

// An idle client doesn't ping: a default server would close its connection.
func TestIdleConnectionStays(t *testing.T) {
	t.Parallel()
	proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
	cfg := DefaultConfig()
	cfg.Endpoints = []string{proxy.Addr()}
	s := open(t, cfg)
	drivertest.Get(t, s, "k")
	before := proxy.Stats()
	// A server takes offence at the third ping.
	ctx := drivertest.WithTimeout(t, 4*minKeepAliveTime)
	<-ctx.Done()
	drivertest.Get(t, s, "k")
	if now := proxy.Stats(); now.Accepted != before.Accepted || now.ToServer-before.ToServer > 1000 {
		t.Errorf("%d connections and %d bytes while idle", now.Accepted-before.Accepted, now.ToServer-before.ToServer)
	}
}
