package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/polykv/polykv/kv/driver"
)

// store is a driver.Store over one gRPC connection per endpoint.
type store struct {
	cfg     Config
	limits  driver.Limits
	client  *clientv3.Client
	kv      pb.KVClient
	opts    []grpc.CallOption
	watcher clientv3.Watcher
	logins  *logins
	history *history
	refused *refusedPeers

	base  context.Context // done once the store is closed
	close context.CancelFunc
}

var (
	_ driver.Store    = (*store)(nil)
	_ driver.Resolver = (*store)(nil)
	_ driver.Locator  = (*store)(nil)
)

// Open returns a store for cfg, or the reason why cfg is wrong. It reads the
// files that cfg names and contacts no server. What the etcd client
// has to say goes to logger; nil discards it. The caller closes the store.
func Open(cfg Config, logger *slog.Logger) (driver.Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	tlsConfig, err := cfg.tlsConfig()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &store{cfg: cfg, limits: cfg.limits(), opts: callOptions(), history: newHistory()}
	s.base, s.close = context.WithCancel(context.Background())
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		Logger:               newZap(logger),
		DialKeepAliveTime:    cfg.KeepAliveTime,
		DialKeepAliveTimeout: cfg.KeepAliveTimeout,
		// A default server closes connections that are pinged while idle.
		PermitWithoutStream: false,
		DialOptions:         s.dialOptions(tlsConfig),
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("etcd: %w", err)
	}
	conn := s.client.ActiveConnection()
	s.kv = pb.NewKVClient(conn)
	s.logins = newLogins(pb.NewAuthClient(conn), s.opts, cfg.Username, cfg.Password)
	s.watcher = clientv3.NewWatchFromWatchClient(watchClient{pb.NewWatchClient(conn)}, s.client)
	return s, nil
}

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

func (s *store) dialOptions(tlsConfig *tls.Config) []grpc.DialOption {
	opts := []grpc.DialOption{
		// Takes the place of the etcd client's, which sends calls again.
		grpc.WithUnaryInterceptor(nil),
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: s.cfg.DialTimeout,
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
		}),
	}
	if tlsConfig != nil {
		s.refused = &refusedPeers{endpoints: len(s.cfg.Endpoints), by: map[string]error{}}
		creds := handshakes{credentials.NewTLS(tlsConfig), tlsConfig.ServerName, s.refused}
		opts = append(opts, grpc.WithTransportCredentials(creds))
	}
	return opts
}

// Get implements driver.Store.
func (s *store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if len(req.Guards) > 0 {
		return s.guardedGet(ctx, req)
	}
	stale := req.AllowStale && s.cfg.SerializableReads
	e, _, err := s.get(ctx, &pb.RangeRequest{Key: []byte(req.Key), Serializable: stale})
	return e, err
}

// get reads a single key and tells at which revision it did.
func (s *store) get(ctx context.Context, req *pb.RangeRequest) (driver.Entry, int64, error) {
	resp, gen, err := s.rangeKeys(ctx, req)
	if err != nil {
		return driver.Entry{}, 0, err
	}
	return entryOf(string(req.Key), resp, gen), resp.Header.Revision, nil
}

func (s *store) rangeKeys(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, uint64, error) {
	m := s.history.mark()
	resp, err := call(ctx, s.logins, req.Serializable, func(ctx context.Context) (*pb.RangeResponse, error) {
		return s.kv.Range(ctx, req, s.opts...)
	})
	if err != nil {
		return nil, 0, s.wrap(ctx, err)
	}
	gen, err := s.history.observe(headerOf(resp.Header), m, !req.Serializable)
	return resp, gen, err
}

func (s *store) guardedGet(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	m := s.history.mark()
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{getOp(req.Key, false)}}
	for _, g := range req.Guards {
		txn.Compare = append(txn.Compare, atVersion(g.Key, g.Version))
	}
	resp, err := call(ctx, s.logins, false, func(ctx context.Context) (*pb.TxnResponse, error) {
		return s.kv.Txn(ctx, txn, s.opts...)
	})
	if err != nil {
		return driver.Entry{}, s.wrap(ctx, err)
	}
	gen, err := s.history.observe(headerOf(resp.Header), m, true)
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
	return existing(resp.Kvs[0], gen)
}

func existing(kv *mvccpb.KeyValue, gen uint64) driver.Entry {
	value := kv.Value
	if value == nil {
		value = []byte{}
	}
	return driver.Entry{
		Key:        string(kv.Key),
		Value:      value,
		Version:    driver.Version(kv.ModRevision),
		Meta:       &meta{kv.CreateRevision, kv.Version},
		Generation: gen,
	}
}

// Limits implements driver.Store.
func (s *store) Limits() driver.Limits { return s.limits }

// Close implements driver.Store.
func (s *store) Close() error {
	s.close()
	_ = s.watcher.Close() // reports nothing but its own cancellation
	// It closes with its context cancelled, and says so.
	_ = s.client.Close()
	return nil
}
