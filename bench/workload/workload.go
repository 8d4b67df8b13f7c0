// Package workload is what the contestants of a benchmark do, and the
// conversation by which the benchmark has them do it.
//
// It imports nothing but the standard library, so that a contestant, a small
// program around one library, links no other library than that one, in the
// versions that it asks for.
package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Client is what the contestants have in common, of the interface of Cortex's and
// dskit's clients.
type Client interface {
	List(ctx context.Context, prefix string) ([]string, error)
	Get(ctx context.Context, key string) (any, error)
	CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error
	WatchKey(ctx context.Context, key string, f func(any) bool)
	WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool)
}

// Target says which store to use.
type Target struct {
	Backend   string   // "memory", "etcd", "consul" or "gossip"
	Endpoints []string // host:port each
	Nodes     int      // of gossip
	Tuned     bool     // with the library's settings for best speed, not its defaults
}

// Store is one store as a contestant sees it.
type Store interface {
	// Client returns one more client of the store, whose values are strings,
	// with a connection of its own.
	Client() (Client, error)
	Close() error
}

// Opener makes a Store.
type Opener func(Target) (Store, error)

// Spec says what to do. Which fields a work uses stands with the work.
type Spec struct {
	Work    string
	Prefix  string // of every key
	Seconds float64

	Clients    int `json:",omitempty"`
	Callers    int `json:",omitempty"` // goroutines
	Keys       int `json:",omitempty"`
	Watchers   int `json:",omitempty"`
	ValueBytes int `json:",omitempty"`
	Writes     int `json:",omitempty"`
	Nodes      int `json:",omitempty"`

	TTL float64 `json:",omitempty"` // seconds, of who takes part in an election
}

// Sample is one measurement.
type Sample struct {
	Calls   int64   // that succeeded
	Failed  int64   `json:",omitempty"` // calls that ended with an error
	Lost    int64   `json:",omitempty"` // writes that were acknowledged and are not in the store
	Seconds float64 // it all took

	// Of the contestant's process, servers left out.
	CPUSeconds float64
	Allocs     float64 // allocations

	// What the work measures besides, by name: times in seconds, sizes in
	// bytes.
	Values map[string]float64 `json:",omitempty"`
}

// Sampler makes one measurement.
type Sampler func(ctx context.Context) (Sample, error)

// work prepares one kind of measurement.
type work func(ctx context.Context, e *env) (Sampler, error)

// works are all kinds, by name.
func works() map[string]work {
	return map[string]work{
		"cas":         casWork,
		"get":         getWork,
		"list":        listWork,
		"notify":      notifyWork,
		"prefixwatch": prefixWatchWork,
		"handover":    handOverWork,
		"takeover":    takeOverWork,
		"fanout":      fanOutWork,
		"restart":     restartWork,
		"sessions":    sessionsWork,
		"followed":    followedWork,
		"own":         ownWork,
		"keymemory":   keyMemoryWork,
		"watchmemory": watchMemoryWork,
		"gossip":      gossipWork,
		"gossipidle":  gossipIdleWork,
		"gossipget":   gossipGetWork,
	}
}

// Prepare opens what s needs. The caller calls done after the last sample.
func Prepare(ctx context.Context, open Opener, t Target, s Spec) (sample Sampler, done func() error, err error) {
	prepare, ok := works()[s.Work]
	if !ok {
		return nil, nil, fmt.Errorf("no work %q; there are %s", s.Work, strings.Join(names(), ", "))
	}
	s.Clients, s.Callers, s.Keys = max(s.Clients, 1), max(s.Callers, 1), max(s.Keys, 1)
	t.Nodes = s.Nodes
	e := &env{Spec: s, target: t}
	if e.line = new(line); s.Work == "restart" && len(t.Endpoints) > 0 {
		if e.line, err = newLine(t.Endpoints[0]); err != nil {
			return nil, nil, err
		}
		t.Endpoints = []string{e.line.addr()}
	}
	if e.store, err = open(t); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done = func() error {
		cancel()
		e.background.Wait()
		err := e.store.Close()
		e.line.close()
		return err
	}
	sample, err = prepare(ctx, e)
	if err != nil {
		_ = done() // what went wrong first is what counts
		return nil, nil, err
	}
	return sample, done, nil
}

func names() []string { return slices.Sorted(maps.Keys(works())) }
