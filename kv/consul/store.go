package consul

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// store is a driver.Store over Consul's own client.
type store struct {
	cfg    Config
	limits driver.Limits
	kv     *api.KV
	txn    *api.Txn
	raw    *api.Raw
	leases *api.Session

	tokens  *kit.Secret // nil: the client has its own
	history *kit.History
	tenancy atomic.Bool // namespace and partition, if set, were accepted
	proxied bool        // a request may be sent again on its way

	sessions sessions

	base  context.Context // done once the store is closed
	close context.CancelFunc
	end   func() // closes idle connections
}

var (
	_ driver.Store    = (*store)(nil)
	_ driver.Resolver = (*store)(nil)
	_ driver.Epocher  = (*store)(nil)
	_ driver.Locator  = (*store)(nil)

	_ driver.Deliberate    = (*store)(nil)
	_ driver.WatchComparer = (*store)(nil)
)

// Open returns a store for cfg, completed from the environment as [Config]
// says, or the reason why cfg is wrong. It reads the files that are named and
// contacts no server. logger is told if the token file can't be read later;
// nil discards that. The caller closes the store.
func Open(cfg Config, logger *slog.Logger) (driver.Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	cfg, env, err := cfg.withEnvironment()
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("consul: with the environment's CONSUL_* variables: %w", err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return open(cfg, env, logger)
}

// open makes a store of settings that were checked.
func open(cfg Config, env environment, logger *slog.Logger) (driver.Store, error) {
	at, err := cfg.endpoint()
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	use := cfg.TLS
	use.Enabled = at.secure
	tls, err := use.Renewing(env.roots)
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	s := newStore(cfg)
	s.proxied = at.proxied()
	s.tokens = kit.NewSecret(cfg.Token, cfg.TokenFile, "consul: the token file can't be read; the last token stays in use", logger)
	transport := newTransport(s.base, cfg, at, tls, s.history.Connected)
	s.end = transport.end
	client, err := api.NewClient(&api.Config{
		Scheme:     at.scheme,
		Address:    at.host,
		PathPrefix: at.path,
		Datacenter: cfg.Datacenter,
		Namespace:  cfg.Namespace,
		Partition:  cfg.Partition,
		HttpAuth:   env.basicAuth,
		HttpClient: &http.Client{Transport: transport},
		// The transport puts the token in this one's place. An empty one would
		// make the client read that of the environment.
		Token: "replaced",
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("consul: %w", err)
	}
	s.use(client)
	return s, nil
}

func (s *store) use(client *api.Client) {
	s.kv, s.txn, s.raw, s.leases = client.KV(), client.Txn(), client.Raw(), client.Session()
}

func newStore(cfg Config) *store {
	s := &store{cfg: cfg, limits: cfg.limits(), history: kit.NewHistory(), end: func() {}}
	s.tenancy.Store(cfg.Namespace == "" && cfg.Partition == "")
	s.base, s.close = context.WithCancel(context.Background())
	return s
}

// do makes one request, and once more if its token was refused and there is
// another one now: a refusal proves that the first had no effect. sent tells
// whether the last, if it is noticed, may have left this process.
func do[R any](ctx context.Context, s *store, request func(ctx context.Context) (R, error)) (result R, sent bool, err error) {
	if s.tokens == nil {
		return doAsHost(s.base, ctx, request)
	}
	for again := true; ; again = false {
		a := &attempt{token: s.tokens.Current()}
		result, err = request(context.WithValue(ctx, attemptKey{}, a))
		if err == nil || !again || !refusesToken(err) || !s.tokens.Replaced(a.token) {
			return result, a.sent.Load(), err
		}
	}
}

// Limits implements driver.Store.
func (s *store) Limits() driver.Limits { return s.limits }

// attemptTimeout leaves room for Consul's performance.rpc_hold_timeout, 7 s by
// default: so long a server without a leader holds a request before it refuses
// it. Giving up earlier would leave every create of that time in doubt.
const attemptTimeout = 8 * time.Second

// ComparesWatches implements driver.WatchComparer: each answer is all of a range,
// and one comes after WaitTime if nothing happens.
func (s *store) ComparesWatches() bool { return true }

// AttemptTimeout implements driver.Deliberate.
func (s *store) AttemptTimeout() time.Duration { return attemptTimeout }

// Epoch implements driver.Epocher.
func (s *store) Epoch() uint64 { return s.history.Epoch() }

// Close implements driver.Store.
func (s *store) Close() error {
	s.close()
	s.end()
	return nil
}
