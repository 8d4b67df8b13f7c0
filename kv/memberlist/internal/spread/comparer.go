package spread

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// While changes are on their way, two nodes differ most of the time and there
// is nothing to do about it. So a difference seen in the answer to a probe is
// only a doubt: the peer is asked for its digests again, checks times,
// checkDelay apart, and the two are compared only if they differ each time.
const (
	checks     = 3
	checkDelay = 100 * time.Millisecond // and up to as much again

	// maxDoubts bounds the peers that are being checked at once.
	maxDoubts = 4

	// compareDelay is the longest random delay of a comparison that has a
	// better reason than a doubt, so that not all nodes begin at once.
	compareDelay = 50 * time.Millisecond

	// compareAgain is the least time between comparisons with one peer. While
	// somebody writes more than fits datagrams, all that came meanwhile is
	// taken at once, rather than little by little.
	compareAgain = time.Second

	// comparePause is between comparisons that found nothing; it doubles up to
	// maxComparePause and is forgotten when something was found.
	comparePause    = 500 * time.Millisecond
	maxComparePause = 8 * time.Second

	// maxFailedPause is the longest pause after a comparison that failed. It
	// begins at half of comparePause, and doubles.
	maxFailedPause = 30 * time.Second

	// maxExpected bounds the instances that were heard of before they were
	// members.
	maxExpected = 64
)

// doubt is what is known about a peer that may differ.
type doubt struct {
	peer   network.Peer
	due    time.Time
	differ int  // how often it did in a row
	silent int  // how often it did not answer
	sure   bool // compare without checking
}

// maxComparing is how many comparisons this node makes at once: a peer that
// hangs does not hold up all others.
const maxComparing = 2

// comparer decides which peers to compare with, and does it.
type comparer struct {
	s    *Spread
	kick chan struct{} // of capacity 1

	mu       sync.Mutex
	doubts   map[string]*doubt   // by peer ID
	expected map[uint64]struct{} // instances to compare with once they are members
	pause    time.Duration
	notUntil time.Time // for doubts
	running  int
	ended    map[string]time.Time // the last comparison, by peer ID
	fails    map[string]int       // in a row, by peer ID
}

func newComparer(s *Spread) *comparer {
	return &comparer{
		s: s, kick: make(chan struct{}, 1),
		doubts: map[string]*doubt{}, expected: map[uint64]struct{}{}, ended: map[string]time.Time{}, fails: map[string]int{},
	}
}

// doubt notes that peer said something else than this node.
func (c *comparer) doubt(peer network.Peer, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doubts[peer.ID] != nil || len(c.doubts) >= maxDoubts {
		return
	}
	due := now.Add(jitter(checkDelay))
	if due.Before(c.notUntil) {
		due = c.notUntil
	}
	c.doubts[peer.ID] = &doubt{peer: peer, due: due}
	c.wake()
}

// soon makes this node compare itself with peer, whatever doubts there are.
func (c *comparer) soon(peer network.Peer) {
	due := time.Now().Add(rand.N(compareDelay))
	c.mu.Lock()
	defer c.mu.Unlock()
	if again := c.ended[peer.ID].Add(compareAgain); again.After(due) {
		due = again
	}
	if d := c.doubts[peer.ID]; d != nil && d.sure {
		return
	}
	c.doubts[peer.ID] = &doubt{peer: peer, due: due, sure: true}
	c.wake()
}

// expect makes this node compare itself with an instance once it is a member.
func (c *comparer) expect(instance uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.expected) < maxExpected {
		c.expected[instance] = struct{}{}
	}
}

// joined is called for new members.
func (c *comparer) joined(peer network.Peer) {
	c.mu.Lock()
	_, expected := c.expected[peer.Instance]
	delete(c.expected, peer.Instance)
	c.mu.Unlock()
	if expected {
		c.soon(peer)
	}
}

// left is called for members that are gone.
func (c *comparer) left(peer network.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.doubts, peer.ID)
	delete(c.ended, peer.ID)
	delete(c.fails, peer.ID)
}

// answered notes the answer to a check.
func (c *comparer) answered(peer network.Peer, equal bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.doubts[peer.ID]
	switch {
	case d == nil || d.sure:
	case equal:
		delete(c.doubts, peer.ID)
	default:
		d.silent = 0
		if d.differ++; d.differ >= checks {
			d.sure, d.due = true, time.Now()
			c.wake()
		}
	}
}

func (c *comparer) wake() { wait.Signal(c.kick) }

// due returns the peers to check now, one to compare with, if any, and when
// to look again; zero: on a kick.
func (c *comparer) due(now time.Time) (check []network.Peer, compare *network.Peer, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, d := range c.doubts {
		if !d.due.After(now) {
			switch {
			case d.sure && c.running < maxComparing && compare == nil:
				compare = &d.peer
				delete(c.doubts, id)
				c.running++
				continue
			case d.sure && c.running >= maxComparing:
				continue // the end of one of them is a kick
			case d.sure:
			case d.silent >= checks: // a stream will tell
				d.sure = true
			default:
				d.silent++
				check = append(check, d.peer)
				d.due = now.Add(jitter(checkDelay))
			}
		}
		if next.IsZero() || d.due.Before(next) {
			next = d.due
		}
	}
	return check, compare, next
}

// compared notes the result of a comparison.
func (c *comparer) compared(peer network.Peer, found bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found {
		c.pause = 0
	} else {
		c.pause = min(max(2*c.pause, comparePause), maxComparePause)
	}
	c.notUntil = now.Add(jitter(c.pause))
	c.running--
	if _, ok := c.s.member(peer.Instance); ok {
		c.ended[peer.ID] = now
	}
}

// jitter returns d and up to as much again.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d + rand.N(d)
}

// size returns how many peers are being checked or about to be compared with.
func (c *comparer) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.doubts)
}

// run is the goroutine that checks and compares.
func (c *comparer) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		case <-timer.C:
		}
		check, peer, next := c.due(time.Now())
		for _, p := range check {
			c.s.count.checks.Add(1)
			c.s.sendRoots(frameCheck, p)
		}
		if peer != nil {
			c.s.wg.Go(func() { c.compare(ctx, *peer) })
			c.wake() // there may be another one
		} else if !next.IsZero() {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// compare brings this node and peer to the same state.
func (c *comparer) compare(ctx context.Context, peer network.Peer) {
	found, err := c.s.compare(ctx, peer)
	c.compared(peer, found, time.Now())
	if err != nil && ctx.Err() == nil {
		c.failed(peer, err)
	} else {
		c.mu.Lock()
		delete(c.fails, peer.ID)
		c.mu.Unlock()
	}
	c.wake()
}

// failed lets the peer be tried again, in a while if it is still a member, or
// another one if that is too busy.
func (c *comparer) failed(peer network.Peer, err error) {
	if errors.Is(err, errBusy) {
		c.s.count.compareBusy.Add(1)
		if others := pick(c.s.Peers(), 1, peer.Instance); len(others) > 0 {
			peer = others[0]
		}
	} else {
		c.s.count.compareFailures.Add(1)
		c.s.complain("comparing with a member failed", "member", peer.Name, "err", err)
	}
	if _, ok := c.s.member(peer.Instance); !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pause := min(comparePause/2<<min(c.fails[peer.ID], 10), maxFailedPause)
	c.fails[peer.ID]++
	if c.doubts[peer.ID] == nil {
		c.doubts[peer.ID] = &doubt{peer: peer, due: time.Now().Add(jitter(pause)), sure: true}
	}
}
