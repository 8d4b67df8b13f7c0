package e2e

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// A fleetMember is a process of the fleet: its goroutines write, delete and
// read, and one watch for each kind of key follows.
type fleetMember struct {
	*fleetVoice
	name   string
	pace   time.Duration
	client kv.Client

	mu   sync.Mutex
	next int // number of an operation
}

const (
	fleetWriters = 8 // goroutines of a member
	fleetOfThose = 2 // work on registers, the rest on counters
)

// member is the life of a member, until its input ends or says so.
func (c *fleetChild) member() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	m := &fleetMember{fleetVoice: newFleetVoice(), name: c.Name, pace: cmp.Or(c.Pace, fleetPace), client: client}
	ctx, stopWatches := context.WithCancel(context.Background())
	var watches, writers sync.WaitGroup
	for _, prefix := range []string{fleetCounterPrefix, fleetRegisterPrefix} {
		watches.Go(func() { m.follow(ctx, prefix) })
	}
	enough := make(chan struct{})
	for i := range fleetWriters {
		rnd := rand.New(rand.NewPCG(c.Seed, uint64(i)))
		writers.Go(func() { m.work(i, rnd, enough) })
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		if input.Text() == "quiet" {
			close(enough)
			writers.Wait()
			m.tell(fleetLine{What: fleetQuiet})
			continue
		}
		stopWatches() // "stop"
		watches.Wait()
		return client.Close()
	}
	os.Exit(1) // the parent is gone
	return nil
}

// client is coordinated, or that of the source alone.
func (c *fleetChild) client() (kv.Client, error) {
	if !c.Coordinated {
		return c.Stores[0].open()
	}
	return openConfig(fleetConfig(c.Stores, c.Options))
}

// follow tells what a watch is told.
func (m *fleetMember) follow(ctx context.Context, prefix string) {
	_ = kv.Watch(ctx, m.client, kv.PrefixRange(prefix), func(ev kv.Event) bool {
		switch ev.Type {
		case kv.Put, kv.Delete:
			value, _ := ev.Value.(string)
			m.tell(fleetLine{What: fleetTold, Key: ev.Key, Saw: value})
		case kv.Synced:
			m.tell(fleetLine{What: fleetSynced, Key: prefix})
		}
		return true
	})
}

// work makes one operation after another.
func (m *fleetMember) work(i int, rnd *rand.Rand, enough <-chan struct{}) {
	for {
		select {
		case <-enough:
			return
		case <-time.After(m.pace + time.Duration(rnd.Int64N(int64(m.pace)))):
		}
		if i >= fleetOfThose {
			m.count(fleetKey(fleetCounterPrefix, rnd.IntN(fleetCounters)))
			continue
		}
		key := fleetKey(fleetRegisterPrefix, rnd.IntN(fleetRegisters))
		switch n := rnd.IntN(10); {
		case n < 5:
			m.cas(key, opWrite)
		case n < 6:
			m.cas(key, opRemove)
		case n < 7:
			m.delete(key)
		default:
			m.get(key)
		}
	}
}

// do tells of an operation before and after.
func (m *fleetMember) do(kind opKind, key string, operate func(id int, l *fleetLine) error) {
	m.mu.Lock()
	m.next++
	id := m.next
	m.mu.Unlock()
	m.tell(fleetLine{What: fleetBegins, ID: id, Kind: kind, Key: key})
	end := fleetLine{What: fleetEnds, ID: id, Kind: kind, Key: key, Fate: done}
	if err := operate(id, &end); err != nil {
		end.Fate, end.Err = never, err.Error()
		if errors.Is(err, kv.ErrIndeterminate) {
			end.Fate = maybe
		}
	}
	m.tell(end)
}

func (m *fleetMember) count(key string) {
	m.do(opWrite, key, func(int, *fleetLine) error {
		return m.client.CAS(context.Background(), key, increment)
	})
}

func (m *fleetMember) cas(key string, kind opKind) {
	run := 0
	m.do(kind, key, func(id int, end *fleetLine) error {
		return m.client.CAS(context.Background(), key, func(in any) (out any, retry bool, err error) {
			run++
			end.Saw, _ = in.(string)
			end.Kind, end.Wrote = kind, ""
			switch {
			case kind == opWrite:
				end.Wrote = fmt.Sprintf("%s.%d.%d", m.name, id, run)
				out = end.Wrote
			case in != nil:
				out = kv.Remove
			default:
				end.Kind = opDecline
			}
			m.tell(fleetLine{What: fleetDecides, ID: id, Kind: end.Kind, Key: key, Saw: end.Saw, Wrote: end.Wrote})
			return out, false, nil
		})
	})
}

func (m *fleetMember) delete(key string) {
	m.do(opDelete, key, func(int, *fleetLine) error { return m.client.Delete(context.Background(), key) })
}

func (m *fleetMember) get(key string) {
	m.do(opGet, key, func(_ int, end *fleetLine) error {
		got, err := m.client.Get(context.Background(), key)
		end.Saw, _ = got.(string)
		return err
	})
}

func isFleetCounter(key string) bool { return strings.HasPrefix(key, fleetCounterPrefix) }
