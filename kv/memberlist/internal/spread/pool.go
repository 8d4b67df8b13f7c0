package spread

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// maxIdle is how many unused streams to one peer are kept.
const maxIdle = 2

// pool holds the streams to others. A stream is used by one goroutine at a
// time; afterwards it is kept for a while, since dialling costs round trips.
type pool struct {
	net     Network
	timeout time.Duration

	mu     sync.Mutex
	closed bool
	idle   map[string][]idleStream // by peer ID, the one used last at the end
	busy   map[*stream]string      // the ID of the peer
}

type idleStream struct {
	*stream
	since time.Time
}

func newPool(net Network, timeout time.Duration) *pool {
	return &pool{net: net, timeout: timeout, idle: map[string][]idleStream{}, busy: map[*stream]string{}}
}

// get returns a stream to peer. used says that it was kept from an earlier
// use, so that the peer may have closed it since.
func (p *pool) get(ctx context.Context, peer network.Peer) (st *stream, used bool, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, network.ErrClosed
	}
	if idle := p.idle[peer.ID]; len(idle) > 0 {
		st = idle[len(idle)-1].stream
		p.idle[peer.ID] = idle[:len(idle)-1]
		p.busy[st] = peer.ID
		p.mu.Unlock()
		return st, true, nil
	}
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	conn, err := p.net.Dial(ctx, peer)
	if err != nil {
		return nil, false, err
	}
	st = newStream(conn, p.timeout)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		st.close()
		return nil, false, network.ErrClosed
	}
	p.busy[st] = peer.ID
	return st, false, nil
}

// put hands a stream back, for others to use unless it failed.
func (p *pool) put(peer network.Peer, st *stream, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ours := p.busy[st]
	delete(p.busy, st)
	if failed != nil && !errors.Is(failed, errBusy) || !ours || p.closed || len(p.idle[peer.ID]) >= maxIdle {
		st.close()
		return
	}
	p.idle[peer.ID] = append(p.idle[peer.ID], idleStream{st, time.Now()})
}

// expire closes the streams that were not used for half the time after which
// the other side gives them up.
func (p *pool) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, idle := range p.idle {
		n := 0
		for n < len(idle) && now.Sub(idle[n].since) > p.timeout/2 {
			idle[n].close()
			n++
		}
		if p.idle[id] = idle[n:]; n == len(idle) {
			delete(p.idle, id)
		}
	}
}

// drop closes all streams to a peer that is no member any more: what waits
// for it ends now.
func (p *pool) drop(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, st := range p.idle[id] {
		st.close()
	}
	delete(p.idle, id)
	for st, peer := range p.busy {
		if peer == id {
			st.close()
		}
	}
}

// close closes all streams; those in use fail.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	ids := slices.Collect(maps.Keys(p.idle))
	for st := range p.busy {
		st.close()
	}
	p.mu.Unlock()
	for _, id := range ids {
		p.drop(id)
	}
}

// size returns how many streams are in use, and how many are kept.
func (p *pool) size() (busy, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, streams := range p.idle {
		idle += len(streams)
	}
	return len(p.busy), idle
}

// with calls f with a stream to peer. If a stream that was kept turns out to
// be dead before it brought any answer, f is called again with a new one; not
// if the peer is silent, which it would be on that one too.
func (p *pool) with(ctx context.Context, peer network.Peer, f func(*stream) error) error {
	for {
		st, used, err := p.get(ctx, peer)
		if err != nil {
			return err
		}
		st.answered, st.patience, st.heard = false, 0, nil
		err = f(st)
		dead := err != nil && used && !st.answered && !errors.Is(err, os.ErrDeadlineExceeded)
		p.put(peer, st, err) // whereupon it may be another's
		if !dead || ctx.Err() != nil {
			return err
		}
	}
}
