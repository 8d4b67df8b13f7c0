package spread

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// Spread is one node's part in carrying changes. It is the network's Handler.
// Its methods may be called concurrently.
type Spread struct {
	cfg       Config
	store     *state.Store
	codecHash map[string]uint64
	ours      map[uint64]bool // the hashes of this node's codecs

	net  Network // set by Attach
	self network.Peer
	up   atomic.Bool // attached and not closed

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	queue    *queue
	room     atomic.Int64  // bytes of the items of a frame
	sequence atomic.Uint64 // of the frame sent last
	given    atomic.Bool   // another node has given this one something that it lacked
	history  history
	origins  *origins
	comparer *comparer
	pulls    *pulls
	pool     *pool
	serving  chan struct{} // holds one element for each peer that is served
	helpers  helpers
	members  members
	rotate   atomic.Uint64

	ready     chan struct{}
	readyOnce sync.Once

	count    counters
	lag      ring[time.Duration]
	messages ring[Message]
	limiter  network.Limiter
	missing  missing
}

var _ network.Handler = (*Spread)(nil)

// New returns a Spread for a store that nobody has written to yet. It does
// nothing but collect changes until Attach; hand it to [network.Start] as the
// handler, and attach what that returns.
func New(store *state.Store, cfg Config) *Spread {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Spread{
		cfg: cfg, store: store, codecHash: map[string]uint64{}, ours: map[uint64]bool{},
		queue: newQueue(), origins: newOrigins(),
		serving: make(chan struct{}, cfg.MaxServed),
		ready:   make(chan struct{}),
		lag:     ring[time.Duration]{size: lagSamples}, messages: ring[Message]{size: recentMessages},
	}
	for _, id := range store.Codecs() {
		s.codecHash[id] = hashCodec(id)
		s.ours[s.codecHash[id]] = true
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.members.now.Store(&memberSet{})
	s.room.Store(unattachedRoom)
	s.comparer, s.pulls = newComparer(s), newPulls(s)
	store.OnLocal(func(u state.Update) { s.queue.add(u, int(s.room.Load())) })
	return s
}

// unattachedRoom is how large a change may be that is made before Attach and
// travels in a datagram: small enough for any network.
const unattachedRoom = 512

// Attach begins to send to, and to take from, net. It may be called once.
func (s *Spread) Attach(net Network) {
	s.net, s.self = net, net.Self()
	s.pool = newPool(net, s.cfg.StreamTimeout)
	s.room.Store(int64(net.MaxFrame() - pushOverhead))
	s.up.Store(true)
	s.PeersChanged(net.Peers())
	s.wg.Go(s.runSender)
	s.wg.Go(s.runRepair)
	s.wg.Go(s.runHousekeeping)
	s.wg.Go(func() { s.comparer.run(s.ctx) })
	s.wg.Go(func() { s.pulls.run(s.ctx) })
}

// Close sends what waits, as Flush does, bounded by ctx, and ends everything.
// It is called before the network's Leave and Close, and is idempotent. Its
// error is that of Flush.
func (s *Spread) Close(ctx context.Context) error {
	var err error
	if s.up.Load() {
		err = s.Flush(ctx)
	}
	s.up.Store(false)
	s.cancel()
	if s.pool != nil {
		s.pool.close()
	}
	s.wg.Wait()
	return err
}

// runHousekeeping is the goroutine that does what is due by time alone.
func (s *Spread) runHousekeeping() {
	tick := time.NewTicker(s.cfg.Housekeeping)
	defer tick.Stop()
	next := time.Now().Add(rand.N(s.cfg.ExchangeInterval))
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			s.pool.expire(now)
			s.origins.forget(now, func(instance uint64) bool { _, ok := s.member(instance); return ok })
			s.store.Restamp()
			s.expire()
			if now.After(next) {
				next = s.exchange(now)
			}
		}
	}
}

// exchange compares this node with another one, and returns when to do so next.
func (s *Spread) exchange(now time.Time) (next time.Time) {
	for _, peer := range pick(s.Peers(), 1, 0) {
		s.comparer.soon(peer)
	}
	return now.Add(s.cfg.ExchangeInterval/2 + rand.N(s.cfg.ExchangeInterval))
}

// expire removes old tombstones.
func (s *Spread) expire() {
	e := s.store.Expire()
	s.count.expired.Add(uint64(e.Keys + e.Parts)) //nolint:gosec // not negative
	s.count.expiredEarly.Add(uint64(e.Dropped))   //nolint:gosec // not negative
	s.count.tombstones.Store(uint64(e.Left))      //nolint:gosec // not negative
	s.count.seenForgotten.Store(e.Forgotten)
}

// transmit sends one frame to each of the peers.
func (s *Spread) transmit(frame []byte, to ...network.Peer) {
	if len(to) == 0 || !s.up.Load() {
		return
	}
	s.count.packetsOut.Add(uint64(len(to)))
	s.count.bytesOut.Add(uint64(len(to) * len(frame))) //nolint:gosec // not negative
	if err := s.net.Send(frame, to...); err != nil {
		s.count.sendFailures.Add(1)
		s.complain("sending a frame failed", "err", err)
	}
}

// Ready returns a channel that is closed once this node has had everything
// that one member had.
func (s *Spread) Ready() <-chan struct{} { return s.ready }

func (s *Spread) becomeReady() { s.readyOnce.Do(func() { close(s.ready) }) }
