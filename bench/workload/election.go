package workload

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Elector is a Store with elections.
type Elector interface {
	// Candidate returns one more participant, with a connection of its own.
	Candidate(ctx context.Context, name string, ttl time.Duration) (Candidate, error)
}

// Candidate is a participant of an election.
type Candidate interface {
	Campaign(ctx context.Context) error // returns when it leads
	Resign(ctx context.Context) error
	Abandon() error // leaves all as it is, as a process that is killed does
}

// settle is how long the next leader is given to take its place in the queue.
const settle = 100 * time.Millisecond

// contest is an election with one who leads and one who waits.
type contest struct {
	env           *env
	elector       Elector
	leader, other Candidate
}

func (e *env) elect(ctx context.Context) (*contest, error) {
	elector, ok := e.store.(Elector)
	if !ok {
		return nil, errors.New("it has no elections")
	}
	c := &contest{env: e, elector: elector}
	var err error
	if c.leader, err = c.candidate(ctx); err != nil {
		return nil, err
	}
	if c.other, err = c.candidate(ctx); err != nil {
		return nil, err
	}
	return c, c.leader.Campaign(ctx)
}

func (c *contest) candidate(ctx context.Context) (Candidate, error) {
	return c.elector.Candidate(ctx, c.env.Prefix+"/election", time.Duration(c.env.TTL*float64(time.Second)))
}

// change ends the leader once it has led for a while, and returns how long after
// that the other one is told that it leads.
func (c *contest) change(ctx context.Context, lead time.Duration, end func(leader Candidate) error) (time.Duration, error) {
	told := make(chan error, 1)
	go func() { told <- c.other.Campaign(ctx) }()
	select {
	case err := <-told:
		return 0, errors.Join(errors.New("two lead"), err)
	case <-time.After(lead):
	}
	start := time.Now()
	err := errors.Join(end(c.leader), <-told)
	took := time.Since(start)
	c.leader, c.other = c.other, c.leader
	return took, err
}

// handOverWork: the leader resigns while another one waits, in turn.
func handOverWork(ctx context.Context, e *env) (Sampler, error) {
	c, err := e.elect(ctx)
	if err != nil {
		return nil, err
	}
	return c.sampler(func(ctx context.Context) (time.Duration, error) {
		return c.change(ctx, settle, func(leader Candidate) error { return leader.Resign(ctx) })
	}), nil
}

// takeOverWork: the leader is killed while another one waits, and at any moment
// between two signs of life: of both, the next leader's come a third of a TTL apart
// since the last one died.
func takeOverWork(ctx context.Context, e *env) (Sampler, error) {
	c, err := e.elect(ctx)
	if err != nil {
		return nil, err
	}
	return c.sampler(func(ctx context.Context) (time.Duration, error) {
		between := rand.N(time.Duration(e.TTL * float64(time.Second) / 3))
		took, err := c.change(ctx, settle+between, Candidate.Abandon)
		if err == nil {
			c.other, err = c.candidate(ctx)
		}
		return took, err
	}), nil
}

// sampler times changes of the leader for the length of a sample, at least one.
func (c *contest) sampler(change func(ctx context.Context) (time.Duration, error)) Sampler {
	return func(ctx context.Context) (Sample, error) {
		return c.env.times(1, func() (time.Duration, error) { return change(ctx) })
	}
}
