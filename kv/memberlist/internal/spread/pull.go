package spread

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

const (
	// maxPulls is how many values are pulled at once, pullsPerPeer from one
	// peer. Pulls from members that have said nothing for answerPatience don't
	// count, so that those who stopped hold up nobody else.
	maxPulls     = 8
	pullsPerPeer = 2

	// maxAnnounced bounds the values that wait to be pulled. Beyond that they
	// are left to comparisons.
	maxAnnounced = 64 << 10

	// pullRetry is the pause before a value is asked for again when all who
	// have it are busy, and up to as much again; pullTries is how often.
	pullRetry = 30 * time.Millisecond
	pullTries = 100

	// answerPatience is how long a member may take to answer while there are
	// others to ask, or others to pull from. Whom a busy member sent us to may
	// have stopped since.
	answerPatience = time.Second
)

// pull is one value that was announced.
type pull struct {
	codec, key string
	e, v       state.Version
	size       uint64
	sources    []network.Peer // who has it, the best first
	tries      int
	heard      time.Time // while it runs: when the member it comes from last said something
	again      bool      // announced anew while running
	due        time.Time
}

// errAbsent: the member that was asked has not got the value either, or only an
// older one. A busy one sends us to those that it has served, who may still be
// reading what they got, or got what the value was before.
var errAbsent = errors.New("the member doesn't have the value yet")

// announced is what w was announced as; the mutex of pulls is held.
func (w *pull) announced() *item {
	return &item{Update: state.Update{Key: w.key, Codec: w.codec, E: w.e, V: w.v}}
}

// pulls are the announced values that this node does not have yet.
type pulls struct {
	s    *Spread
	kick chan struct{} // of capacity 1

	mu      sync.Mutex
	wanted  map[string]*pull // by key
	order   []*pull          // not running, in the order to try them
	running map[*pull]bool
	perPeer map[string]int
}

func newPulls(s *Spread) *pulls {
	return &pulls{
		s: s, kick: make(chan struct{}, 1),
		wanted: map[string]*pull{}, running: map[*pull]bool{}, perPeer: map[string]int{},
	}
}

// announce notes that a peer has a value.
func (p *pulls) announce(it *item, from network.Peer) {
	if _, known := p.s.codecHash[it.Codec]; !known || p.s.has(it) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.wanted[it.Key]
	switch {
	case w == nil && len(p.wanted) >= maxAnnounced:
		p.s.comparer.soon(from)
		return
	case w == nil:
		w = &pull{key: it.Key}
		p.wanted[it.Key] = w
		p.order = append(p.order, w)
	case p.running[w]:
		w.again = true
	}
	w.codec, w.e, w.v, w.size = it.Codec, it.E, it.V, it.size
	w.sources = append([]network.Peer{from}, w.sources[:min(len(w.sources), maxHelpers)]...)
	w.tries = 0
	p.wake()
}

// has reports whether this node has what an item announces, or newer.
func (s *Spread) has(it *item) bool {
	have := s.store.Have(it.Codec, it.Key)
	return it.isIn(have.E, have.V)
}

// isIn reports whether a state with these versions has what an item announces.
func (it *item) isIn(e, v state.Version) bool {
	if c := e.Compare(it.E); c != 0 {
		return c > 0
	}
	// Of a value that merges, an equal version does not say as much: the
	// announced one may be a change.
	return !it.Partial && v.Compare(it.V) >= 0
}

func (p *pulls) wake() { wait.Signal(p.kick) }

// next returns a pull to run now and where from, or when to look again.
func (p *pulls) next(now time.Time) (w *pull, from network.Peer, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, pause := p.talking(now); n >= maxPulls {
		return nil, from, pause
	}
	pause = time.Hour
	for i, w := range p.order {
		if d := w.due.Sub(now); d > 0 {
			pause = min(pause, d)
			continue
		}
		for j, peer := range w.sources {
			if p.perPeer[peer.ID] >= pullsPerPeer {
				continue
			}
			p.order = append(p.order[:i], p.order[i+1:]...)
			w.sources = append(w.sources[:j:j], w.sources[j+1:]...)
			w.heard = now
			p.running[w] = true
			p.perPeer[peer.ID]++
			return w, peer, 0
		}
	}
	return nil, from, pause
}

// talking counts the pulls under way whose members have said something lately,
// and returns how long until one of them may be counted out; p.mu is held.
func (p *pulls) talking(now time.Time) (n int, pause time.Duration) {
	pause = time.Hour
	for w := range p.running {
		if left := answerPatience - now.Sub(w.heard); left > 0 {
			n++
			pause = min(pause, left)
		}
	}
	return n, pause
}

// hear notes that the member that w comes from said something.
func (p *pulls) hear(w *pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.heard = time.Now()
}

// run is the goroutine that starts pulls.
func (p *pulls) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w, from, pause := p.next(time.Now())
		if w != nil {
			p.s.wg.Go(func() { p.finish(w, from, p.pull(ctx, w, from)) })
			continue
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-timer.C:
		}
	}
}

// pull gets one value from a peer.
func (p *pulls) pull(ctx context.Context, w *pull, from network.Peer) error {
	p.mu.Lock()
	request := pullRequest{instance: p.s.self.Instance, codec: w.codec, size: w.size}
	announced, patience := w.announced(), p.s.cfg.StreamTimeout
	if len(w.sources) > 0 {
		patience = min(patience, answerPatience)
	}
	p.mu.Unlock()
	request.have = p.s.store.Have(announced.Codec, announced.Key)
	var refused refusal
	came := false
	ask, cancel := context.WithTimeout(ctx, patience) // to dial and to answer
	defer cancel()
	err := p.s.pool.with(ask, from, func(st *stream) error {
		st.patience, st.heard = patience, func() { p.hear(w) }
		if err := st.send(msgPull, appendPull(nil, &request)); err != nil {
			return err
		}
		err := p.s.takeRecords(st, nil, &refused, func(it *item) { came = came || announced.isIn(it.E, it.V) })
		if busy := (*busyError)(nil); errors.As(err, &busy) {
			p.learn(w, busy.helpers)
		}
		return err
	})
	if len(refused.keys) > 0 {
		p.s.refuse(from, refused)
	}
	if err == nil && !came && !p.s.has(announced) {
		return errAbsent
	}
	return err
}

// learn adds members that have the value by now.
func (p *pulls) learn(w *pull, helpers []byte) {
	instances, err := decodeInstances(helpers)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range rand.Perm(len(instances)) {
		if peer, ok := p.s.member(instances[i]); ok && len(w.sources) < 2*maxHelpers {
			w.sources = append(w.sources, peer)
		}
	}
}

// finish notes how a pull ended, and decides what to do next.
func (p *pulls) finish(w *pull, from network.Peer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, w)
	if p.perPeer[from.ID]--; p.perPeer[from.ID] == 0 {
		delete(p.perPeer, from.ID)
	}
	defer p.wake()
	switch {
	case err == nil && !w.again:
		p.s.count.pulls.Add(1)
		delete(p.wanted, w.key)
		return
	case err != nil && p.s.ctx.Err() != nil, p.s.has(w.announced()):
		delete(p.wanted, w.key)
		return
	case errors.Is(err, errBusy):
		p.s.count.pullBusy.Add(1)
		w.due = time.Now().Add(jitter(pullRetry))
		w.sources = append(w.sources, from)
	case errors.Is(err, errAbsent):
		p.s.count.pullAbsent.Add(1)
		w.due = time.Now().Add(jitter(pullRetry))
		if len(w.sources) == 0 { // else others, since from may have sent all of an older value
			w.sources = append(w.sources, from)
		}
	case err != nil:
		p.s.count.pullFailures.Add(1)
		p.s.complain("pulling a value failed, trying another member", "key", w.key, "member", from.Name, "err", err)
	}
	w.again = false
	if w.tries++; w.tries > pullTries {
		delete(p.wanted, w.key)
		p.s.comparer.soon(from)
		return
	}
	if len(w.sources) == 0 {
		w.sources = pick(p.s.Peers(), 2, 0) // the one that failed included
		w.due = time.Now().Add(jitter(pullRetry))
	}
	p.order = append(p.order, w)
}

// size returns how many values wait to be pulled, and how many are.
func (p *pulls) size() (waiting, running int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.order), len(p.running)
}
