package contestant

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/consul/api"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/polykv/polykv/bench/workload"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
)

// Candidate implements workload.Elector.
func (s *polykv) Candidate(_ context.Context, name string, ttl time.Duration) (workload.Candidate, error) {
	c, err := s.Client()
	if err != nil {
		return nil, err
	}
	client, _ := c.(kv.Client)
	e, err := coordination.NewElection(client, name, coordination.Options{TTL: ttl, Logger: discard})
	if err != nil {
		return nil, err
	}
	s.elections = append(s.elections, e)
	return &candidate{client: client, election: e}, nil
}

type candidate struct {
	client   kv.Client
	election *coordination.Election
	held     *coordination.Held
}

func (c *candidate) Campaign(ctx context.Context) (err error) {
	c.held, err = c.election.Campaign(ctx, "")
	return err
}

func (c *candidate) Resign(ctx context.Context) error { return c.held.Unlock(ctx) }

// Abandon closes the client first, so that nothing can be given back.
func (c *candidate) Abandon() error { return errors.Join(c.client.Close(), c.election.Close()) }

// Candidate implements workload.Elector.
func (s *rawStore) Candidate(ctx context.Context, name string, ttl time.Duration) (workload.Candidate, error) {
	if _, err := s.Client(); err != nil {
		return nil, err
	}
	switch c := s.clients[len(s.clients)-1].(type) {
	case *rawEtcd:
		session, err := concurrency.NewSession(c.Client, concurrency.WithTTL(int(ttl/time.Second)))
		if err != nil {
			return nil, err
		}
		return &etcdCandidate{concurrency.NewElection(session, name), session, c}, nil
	case *rawConsul:
		return newConsulCandidate(c, name, ttl)
	}
	return nil, errors.New("it has no elections")
}

// etcdCandidate is package concurrency of etcd's client.
type etcdCandidate struct {
	*concurrency.Election
	session *concurrency.Session
	client  *rawEtcd
}

func (c *etcdCandidate) Campaign(ctx context.Context) error { return c.Election.Campaign(ctx, "") }

// Abandon leaves the lease to its TTL.
func (c *etcdCandidate) Abandon() error {
	c.session.Orphan()
	return nil
}

// consulCandidate is the Lock of Consul's client, with a session that can be
// left to its TTL.
type consulCandidate struct {
	*api.Lock
	stop context.CancelFunc
}

func newConsulCandidate(c *rawConsul, name string, ttl time.Duration) (workload.Candidate, error) {
	id, _, err := c.client.Session().Create(&api.SessionEntry{Name: "bench", TTL: ttl.String()}, nil)
	if err != nil {
		return nil, err
	}
	lock, err := c.client.LockOpts(&api.LockOptions{Key: name, Session: id})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for ticker := time.NewTicker(ttl / 3); ; {
			select {
			case <-ticker.C:
				_, _, _ = c.client.Session().Renew(id, nil)
			case <-ctx.Done():
				ticker.Stop()
				return
			}
		}
	}()
	c.leave = append(c.leave, stop)
	return &consulCandidate{lock, stop}, nil
}

func (c *consulCandidate) Campaign(ctx context.Context) error {
	lost, err := c.Lock.Lock(ctx.Done())
	if err == nil && lost == nil {
		err = ctx.Err()
	}
	return err
}

func (c *consulCandidate) Resign(context.Context) error { return c.Unlock() }

func (c *consulCandidate) Abandon() error {
	c.stop()
	return nil
}
