package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxJoins is how many addresses are contacted at a time, but for young nodes.
const maxJoins = 3

// joiner finds other nodes: at the start, and again and again, since a
// partition that lasts longer than failed members are probed would otherwise be
// for good.
type joiner struct {
	n        *Network
	resolver *resolver
	joined   chan struct{} // closed when all was tried once

	mu      sync.Mutex
	own     map[netip.AddrPort]time.Time // when an address turned out to be this node
	problem string                       // of the last attempt that failed
	due     Limiter                      // of warnings, by address
}

func newJoiner(n *Network) *joiner {
	return &joiner{n: n, resolver: newResolver(&n.cfg), joined: make(chan struct{}), own: map[netip.AddrPort]time.Time{}}
}

// run joins until the network is closed.
func (j *joiner) run() {
	n := j.n
	if len(n.cfg.Join) > 0 {
		n.members.expect(true) // until it turns out that all is this node
		j.round(true)
	}
	n.members.publish() // those that were found are seen by whoever waits
	close(j.joined)
	for n.cfg.RejoinInterval > 0 {
		interval := n.cfg.RejoinInterval
		if len(n.Peers()) == 0 {
			interval = min(interval, n.cfg.AloneInterval)
		}
		timer := time.NewTimer(jittered(interval))
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			timer.Stop()
			return
		}
		j.round(false)
	}
}

// jittered returns d give or take a quarter.
func jittered(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(rand.Int64N(int64(d)/2+1))
}

// round contacts what is on the list and isn't a live member: at the start and
// while alone, all until one answers; else one, in case that there are others
// on its side of what was a partition.
func (j *joiner) round(start bool) {
	n := j.n
	ctx, cancel := n.withTimeout(j.patience())
	defer cancel()
	seeds, err := j.resolver.resolve(ctx, n.cfg.Join)
	if err != nil {
		j.failed("", fmt.Errorf("resolve the join list: %w", err))
	}
	n.members.expect(len(j.others(seeds, math.MaxInt64)) > 0 || err != nil)
	candidates := j.notLive(j.others(slices.Concat(seeds, n.members.failedAddrs()), ownFor))
	rand.Shuffle(len(candidates), func(a, b int) { candidates[a], candidates[b] = candidates[b], candidates[a] })
	if len(n.Peers()) > 0 && !start {
		candidates = candidates[:min(1, len(candidates))]
	}
	most := maxJoins
	if n.members.young() { // at once, two clusters could both take it for theirs
		most = 1
	}
	for batch := range slices.Chunk(candidates, most) {
		if j.contact(ctx, batch) || ctx.Err() != nil {
			return
		}
	}
}

// patience bounds a round: names that don't resolve must not end joining.
func (j *joiner) patience() time.Duration { return max(30*time.Second, 10*j.n.cfg.JoinTimeout) }

// contact joins by some addresses at once and tells whether any answered.
func (j *joiner) contact(ctx context.Context, addrs []netip.AddrPort) bool {
	results := make(chan error, len(addrs))
	for _, addr := range addrs {
		j.n.wg.Go(func() {
			_, err := j.n.list.Join([]string{addr.String()})
			j.mu.Lock()
			delete(j.own, addr)
			if err != nil && isOwn(err) {
				j.own[addr] = time.Now()
			}
			j.mu.Unlock()
			if err != nil && !isOwn(err) {
				j.failed(addr.String(), cmp.Or(errors.Unwrap(err), err)) // without what stands around several
			}
			results <- err
		})
	}
	joined := false
	for range addrs {
		select {
		case err := <-results:
			joined = joined || err == nil
		case <-ctx.Done():
			return joined
		}
	}
	return joined
}

// failed notes why nobody was met. As long as nobody is, it is told now and then.
func (j *joiner) failed(address string, err error) {
	j.mu.Lock()
	j.problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	j.mu.Unlock()
	level := slog.LevelDebug
	if len(j.n.Peers()) == 0 && j.due.Allow(address, time.Now()) {
		level = slog.LevelWarn
	}
	j.n.logger.Log(j.n.ctx, level, "gossip: join", "address", address, "error", err)
}

// JoinProblem says why the last attempt to meet another node failed; "" if none
// did.
func (n *Network) JoinProblem() string {
	n.joiner.mu.Lock()
	defer n.joiner.mu.Unlock()
	return n.joiner.problem
}

// isOwn tells whether a join found this node itself. memberlist keeps nothing of
// an error but its text.
func isOwn(err error) bool {
	return strings.Contains(err.Error(), errSelf.Error())
}

// ownFor is how long an address counts as this node's that led to it: behind a
// balancer, or when addresses are given away again, it leads to another one
// the next time.
const ownFor = time.Minute

// others returns addrs without this node's, and those that led to it not longer
// ago than that.
func (j *joiner) others(addrs []netip.AddrPort, ago time.Duration) []netip.AddrPort {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.AddrPort) bool {
		found, ok := j.own[a]
		return a == j.n.self.Addr || ok && time.Since(found) < ago
	})
}

// notLive returns addrs, sorted, each once, without those of live members.
func (j *joiner) notLive(addrs []netip.AddrPort) []netip.AddrPort {
	liveAddrs := map[netip.AddrPort]bool{}
	for _, peer := range j.n.Peers() {
		liveAddrs[peer.Addr] = true
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	addrs = slices.Compact(addrs)
	return slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return liveAddrs[a] })
}
