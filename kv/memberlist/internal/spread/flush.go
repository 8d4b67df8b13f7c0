package spread

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"

	"github.com/polykv/polykv/internal/wait"
)

// errNobody: no member took over what this node had.
var errNobody = errors.New("no member confirmed that it has this node's changes")

// Flush returns once this node's changes have been sent and one member was
// seen to hold everything that this node holds. With no members, there is
// nothing to wait for, nor if all refuse connections. It fails when ctx ends, and
// if members refuse what this node wrote, since its clock is wrong.
func (s *Spread) Flush(ctx context.Context) error {
	select {
	case <-s.queue.drained():
	case <-ctx.Done():
		return fmt.Errorf("changes are still waiting to be sent: %w", ctx.Err())
	case <-s.ctx.Done():
		return nil
	}
	if s.sequence.Load() == 0 && !s.given.Load() { // nothing was written here, nor left to this node by one that closed
		return nil
	}
	last := errNobody
	for {
		peers := s.net.Peers() // s may not have been told of them yet
		if len(peers) == 0 {
			return nil
		}
		ended := 0
		for _, i := range rand.Perm(len(peers)) {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w; the last: %w", errNobody, ctx.Err(), last)
			}
			if s.ctx.Err() != nil {
				return nil
			}
			if _, last = s.compare(ctx, peers[i]); last == nil {
				if err := s.store.Health(); err != nil { // it was given, and refused
					return fmt.Errorf("%w: %w", errNobody, err)
				}
				return nil
			}
			if errors.Is(last, syscall.ECONNREFUSED) {
				ended++
			}
		}
		if ended == len(peers) {
			return nil // their processes have ended, though nobody has noticed yet: there is nobody to wait for
		}
		if err := wait.For(ctx, jitter(pullRetry)); err != nil {
			return fmt.Errorf("%w: %w; the last: %w", errNobody, err, last)
		}
	}
}
