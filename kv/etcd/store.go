package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// store is a driver.Store over one gRPC connection per endpoint.
type store struct {
	cfg        Config
	limits     driver.Limits
	client     *clientv3.Client
	kv         pb.KVClient
	leases     pb.LeaseClient
	keepAlives keepAlives
	opts       []grpc.CallOption
	watcher    clientv3.Watcher
	logins     *logins
	history    *kit.History
	discovery  *discovery
	refused    *refusedPeers

	base  context.Context // done once the store is closed
	close context.CancelFunc
	tasks sync.WaitGroup // that end with base
	hosts bool           // the client is the program's own
}

var (
	_ driver.Store    = (*store)(nil)
	_ driver.Resolver = (*store)(nil)
	_ driver.Epocher  = (*store)(nil)
	_ driver.Locator  = (*store)(nil)
)

// Open returns a store for cfg, or the reason why cfg is wrong. It reads the
// files that cfg names and contacts no server. What the etcd client
// has to say goes to logger; nil discards it. The caller closes the store.
func Open(cfg Config, logger *slog.Logger) (driver.Store, error) {
	addresses, tls, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	endpoints := slices.Clone(cfg.Endpoints)
	for i, a := range addresses {
		if a.Network == "tcp" {
			endpoints[i] = a.Target
		}
	}
	s := newStore(cfg)
	s.discovery = &discovery{
		configured: addresses, sync: cfg.SyncInterval, secure: tls != nil, logger: logger,
		names: map[string]string{}, done: make(chan struct{}),
	}
	if tls != nil {
		s.refused = &refusedPeers{endpoints: s.endpoints, by: map[string]error{}}
	}
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints:            clientURLs(endpoints, tls != nil),
		Logger:               newZap(logger),
		DialKeepAliveTime:    cfg.KeepAliveTime,
		DialKeepAliveTimeout: cfg.KeepAliveTimeout,
		// A default server closes connections that are pinged while idle.
		PermitWithoutStream: false,
		DialOptions: []grpc.DialOption{
			// Takes the place of the etcd client's, which sends calls again.
			grpc.WithUnaryInterceptor(nil),
			grpc.WithConnectParams(grpc.ConnectParams{
				MinConnectTimeout: s.cfg.DialTimeout,
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			}),
			grpc.WithTransportCredentials(newHandshakes(tls, s)),
		},
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("etcd: %w", err)
	}
	s.connect(cfg.Username, kit.NewSecret(cfg.Password, cfg.PasswordFile, "etcd: the password file can't be read; the last password stays in use", logger))
	s.discovery.use = s.useEndpoints
	s.discovery.members = membersOf(s.client.ActiveConnection(), s.logins, s.opts)
	return s, nil
}

func newStore(cfg Config) *store {
	s := &store{cfg: cfg, limits: cfg.limits(), opts: callOptions(), history: kit.NewHistory()}
	s.base, s.close = context.WithCancel(context.Background())
	s.keepAlives.store = s
	return s
}

// connect makes what stands on the client.
func (s *store) connect(user string, password *kit.Secret) {
	conn := s.client.ActiveConnection()
	s.kv, s.leases = pb.NewKVClient(conn), pb.NewLeaseClient(conn)
	s.logins = newLogins(pb.NewAuthClient(conn), s.opts, user, password)
	s.logins.ready = s.ready
	s.watcher = clientv3.NewWatchFromWatchClient(watchClient{pb.NewWatchClient(conn)}, s.client)
}

// ready returns when there are endpoints, or an error if the store is closed.
func (s *store) ready(ctx context.Context) error {
	if s.base.Err() != nil {
		return driver.ErrClosed
	}
	if s.discovery != nil && s.discovery.needed() {
		// Not before: opening a store contacts nobody.
		s.discovery.begin.Do(func() { s.tasks.Go(func() { s.discovery.run(s.base) }) })
		s.discovery.wait(ctx)
	}
	return nil
}

// useEndpoints gives the client other endpoints. Its resolver must not get them
// while gRPC builds it, which it does when a connection leaves idleness: Connect
// returns after that.
func (s *store) useEndpoints(endpoints ...string) {
	s.client.ActiveConnection().Connect()
	s.client.SetEndpoints(endpoints...)
}

// endpoints returns those in use.
func (s *store) endpoints() []string { return s.client.Endpoints() }

// callOptions make a call fail at once while no endpoint is reachable, where
// the etcd client's would wait, and lift gRPC's limit of 4 MiB for an answer:
// one page of a scan may hold more.
func callOptions() []grpc.CallOption {
	return []grpc.CallOption{
		grpc.WaitForReady(false),
		grpc.MaxCallSendMsgSize(math.MaxInt32),
		grpc.MaxCallRecvMsgSize(math.MaxInt32),
	}
}

// Get implements driver.Store.
func (s *store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if len(req.Guards) > 0 {
		return s.guardedGet(ctx, req)
	}
	stale := req.AllowStale && s.cfg.SerializableReads
	e, _, err := s.get(ctx, req.Key, stale)
	return e, err
}

// get reads a single key and tells at which revision it did.
func (s *store) get(ctx context.Context, key string, stale bool) (driver.Entry, int64, error) {
	resp, gen, err := s.rangeKeys(ctx, &pb.RangeRequest{Key: s.cfg.name(key), Serializable: stale})
	if err != nil {
		return driver.Entry{}, 0, err
	}
	return entryOf(key, resp, gen), resp.Header.Revision, nil
}

func (s *store) rangeKeys(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, uint64, error) {
	m := s.history.Mark()
	resp, err := call(ctx, s.logins, req.Serializable, func(ctx context.Context) (*pb.RangeResponse, error) {
		return s.kv.Range(ctx, req, s.opts...)
	})
	if err != nil {
		return nil, 0, s.wrap(ctx, err)
	}
	gen, err := s.history.Observe(m, answer(resp.Header, !req.Serializable))
	return resp, gen, err
}

func (s *store) guardedGet(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	m := s.history.Mark()
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{s.cfg.getOp(req.Key, false)}}
	for _, g := range req.Guards {
		txn.Compare = append(txn.Compare, s.cfg.atVersion(g.Key, g.Version))
	}
	resp, err := call(ctx, s.logins, false, func(ctx context.Context) (*pb.TxnResponse, error) {
		return s.kv.Txn(ctx, txn, s.opts...)
	})
	if err != nil {
		return driver.Entry{}, s.wrap(ctx, err)
	}
	gen, err := s.history.Observe(m, answer(resp.Header, true))
	if err != nil {
		return driver.Entry{}, err
	}
	if !resp.Succeeded {
		return driver.Entry{}, driver.ErrFenced
	}
	return entryOf(req.Key, resp.Responses[0].GetResponseRange(), gen), nil
}

// meta is what driver.Entry.Meta holds: the counters that etcd keeps by key.
type meta struct {
	created int64 // revision that created the key
	writes  int64 // writes since then, the first included: etcd's "Version"
}

func entryOf(key string, resp *pb.RangeResponse, gen uint64) driver.Entry {
	if len(resp.Kvs) == 0 {
		return driver.Entry{Key: key, Generation: gen}
	}
	return existing(key, resp.Kvs[0], gen)
}

// name returns what key is called in the store.
func (c Config) name(key string) []byte { return []byte(c.Root.In(key)) }

// key returns the key of what is called name in the store.
func (c Config) key(name []byte) string { return c.Root.Out(string(name)) }

func existing(key string, kv *mvccpb.KeyValue, gen uint64) driver.Entry {
	value := kv.Value
	if value == nil {
		value = []byte{}
	}
	return driver.Entry{
		Key:        key,
		Value:      value,
		Version:    driver.Version(kv.ModRevision),
		Meta:       &meta{kv.CreateRevision, kv.Version},
		Generation: gen,
	}
}

// Epoch implements driver.Epocher.
func (s *store) Epoch() uint64 { return s.history.Epoch() }

// Limits implements driver.Store.
func (s *store) Limits() driver.Limits { return s.limits }

// Close implements driver.Store.
func (s *store) Close() error {
	s.close()
	s.keepAlives.close()
	_ = s.watcher.Close() // reports nothing but its own cancellation
	if !s.hosts {
		_ = s.client.Close() // with its context cancelled, which it says
	}
	s.tasks.Wait()
	return nil
}
