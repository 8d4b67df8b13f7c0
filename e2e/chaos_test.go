package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// adminTimeout bounds what a fault itself needs of the cluster.
const adminTimeout = 90 * time.Second

// chaos makes both lanes of the plan go wrong, and returns when all is well
// again: every fault ends itself.
func (r *round) chaos(p plan) error {
	network := make(chan error, 1)
	go func() { network <- r.lane(p.Network, r.breakNetwork) }()
	err := r.lane(p.Servers, r.breakServers)
	err = errors.Join(err, <-network)
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	return errors.Join(err, r.arena.cluster.WaitReady(ctx))
}

func (r *round) lane(faults []fault, carryOut func(context.Context, fault) error) error {
	for _, f := range faults {
		ctx, cancel := context.WithTimeout(context.Background(), f.Lasts+adminTimeout)
		err := carryOut(ctx, f)
		cancel()
		if err != nil {
			return fmt.Errorf("%#v: %w", f, err)
		}
		r.tally.injected(f)
		time.Sleep(f.Then)
	}
	return nil
}

// breakServers carries out a fault of the servers or of what they store.
func (r *round) breakServers(ctx context.Context, f fault) error {
	cluster := r.arena.cluster
	switch f.What {
	case kill, stop, restart:
	case compaction, defrag, restore, revoke:
		if err := cluster.WaitReady(ctx); err != nil {
			return err
		}
		return r.arena.storeFaults[f.What](ctx, r, f)
	default:
		return fmt.Errorf("servers can't suffer from %s", f.What)
	}
	nodes, err := r.nodes(ctx, f)
	if err != nil {
		return err
	}
	strike, mend := cluster.Kill, cluster.Restart
	switch f.What {
	case stop:
		strike, mend = cluster.Pause, cluster.Continue
	case restart:
		strike = cluster.Stop
	}
	at := time.Now()
	if err := strike(nodes...); err != nil {
		return err
	}
	if f.What == kill && f.Where == leader {
		r.tally.leaderKilled(at)
	}
	if f.What != stop {
		if err := r.serversDown(nodes, true); err != nil {
			return err
		}
	}
	if f.Where == majority || f.Where == all {
		r.measureDown(f.Lasts)
	} else {
		time.Sleep(f.Lasts)
	}
	if err := mend(nodes...); err != nil || f.What == stop {
		return err
	}
	return errors.Join(listening(ctx, r.arena.cluster.Endpoints(), nodes), r.serversDown(nodes, false))
}

// nodes picks the servers that a fault strikes.
func (r *round) nodes(ctx context.Context, f fault) ([]int, error) {
	n := r.arena.cluster.Nodes()
	if f.Where == all {
		return f.rand().Perm(n), nil
	}
	if f.Where == majority {
		return f.rand().Perm(n)[:n/2+1], nil
	}
	leads, err := r.arena.cluster.Leader(ctx)
	if err != nil || f.Where == leader {
		return []int{leads}, err
	}
	return []int{(leads + 1 + f.rand().IntN(n-1)) % n}, nil
}

func (r *round) serversDown(nodes []int, down bool) error {
	return eachLink(r.arena.links(), func(l *link) error {
		if !slices.Contains(nodes, l.node) {
			return nil
		}
		return l.serverDown(down)
	})
}

// listening waits until servers that were started accept connections.
func listening(ctx context.Context, endpoints []string, nodes []int) error {
	for _, n := range nodes {
		for {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", endpoints[n])
			if err == nil {
				_ = conn.Close()
				break
			}
			if ctx.Err() != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond) // between two looks at the condition
		}
	}
	return nil
}

// measureDown lets the time pass in which the cluster can't answer, and notes
// how much each client asks of it meanwhile.
func (r *round) measureDown(lasts time.Duration) {
	used := func(m *member) int64 { return m.seen.requests.Load() + m.seen.resyncs.Load() }
	before := make([]int64, len(r.arena.members))
	for i, m := range r.arena.members {
		before[i] = used(m)
	}
	begun := time.Now()
	time.Sleep(lasts)
	took := time.Since(begun)
	for i, m := range r.arena.members {
		requests := used(m) - before[i]
		r.tally.wasDown(requests, took)
		if most := r.mostRequests(took); requests > most {
			r.fail("client %d made %d requests in %v while the cluster was down; at most %d are fine", m.id, requests, took, most)
		}
	}
}

// mostRequests is what the pauses between attempts allow for: each worker and
// watch makes some quick ones at first and then one or two a second. An
// attempt to find out about a write makes two requests.
func (r *round) mostRequests(d time.Duration) int64 {
	const quick, later = 12, 3
	sources := float64(r.arena.workers + watchesPerMember)
	return int64(2 * sources * (quick + later*d.Seconds()))
}

// toxics of toxiproxy, with what is drawn of them.
var toxics = map[kind]func(f fault) map[string]any{
	latency: func(f fault) map[string]any {
		ms := 20 + f.rand().IntN(1500)
		return map[string]any{"latency": ms, "jitter": ms / 3}
	},
	bandwidth: func(f fault) map[string]any { return map[string]any{"rate": 1 + f.rand().IntN(64)} },
	slicer: func(f fault) map[string]any {
		return map[string]any{"average_size": 10 + f.rand().IntN(200), "size_variation": 5, "delay": f.rand().IntN(2000)}
	},
	slowClose: func(f fault) map[string]any { return map[string]any{"delay": 100 + f.rand().IntN(3000)} },
	resetPeer: func(f fault) map[string]any { return map[string]any{"timeout": f.rand().IntN(500)} },
	blackhole: func(f fault) map[string]any { return map[string]any{"timeout": f.rand().IntN(1500)} },
	limitData: func(f fault) map[string]any { return map[string]any{"bytes": 200 + f.rand().IntN(20_000)} },
}

// breakNetwork carries out a fault of links.
func (r *round) breakNetwork(ctx context.Context, f fault) error {
	r.network.Lock()
	defer r.network.Unlock()
	links := r.pickLinks(f)
	strike, err := networkFault(f)
	if err == nil {
		err = eachLink(links, strike)
	}
	time.Sleep(f.Lasts)
	return errors.Join(err, eachLink(links, func(l *link) error { return l.cure(ctx) }))
}

func networkFault(f fault) (func(*link) error, error) {
	modes := map[kind]linkMode{cut: refuses, hang: hangs, swallow: swallows}
	if mode, ok := modes[f.What]; ok {
		return func(l *link) error { return l.set(mode) }, nil
	}
	if toxic, ok := toxics[f.What]; ok {
		stream := []string{"upstream", "downstream"}[f.Pick%2]
		return func(l *link) error { return l.poison(string(f.What), stream, toxic(f)) }, nil
	}
	switch f.What {
	case reset:
		return func(l *link) error { l.near.Reset(); return nil }, nil
	case halfOpen:
		return func(l *link) error { l.near.HalfOpen(); return nil }, nil
	}
	return nil, fmt.Errorf("links can't suffer from %s", f.What)
}

func (r *round) pickLinks(f fault) []*link {
	links := r.arena.links()
	one := links[f.rand().IntN(len(links))]
	return slices.DeleteFunc(links, func(l *link) bool {
		switch f.Where {
		case oneLink:
			return l != one
		case oneClient:
			return l.client != one.client
		case oneNode:
			return l.node != one.node
		default:
			return false
		}
	})
}
