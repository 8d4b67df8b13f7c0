package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// mapStore is a store that a test can see through: a map under a lock.
type mapStore struct {
	mu       sync.Mutex
	changed  *sync.Cond
	values   map[string]string
	version  int
	forgets  bool // acknowledges writes that it doesn't make
	unlucky  int  // fails every so many writes
	writes   int
	closures int
	lead     chan struct{} // has room for whoever leads
}

func newMapStore() *mapStore {
	s := &mapStore{values: map[string]string{}, lead: make(chan struct{}, 1)}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// The store is a cluster too, whose nodes are one.
func (s *mapStore) Table(int) Table             { return mapTable{s} }
func (s *mapStore) SentBytes() (float64, error) { return 1, nil }

type mapTable struct{ *mapStore }

func (t mapTable) Get(context.Context) error { return nil }

func (t mapTable) Set(ctx context.Context, name string, n int64) error {
	return put(ctx, t.mapStore, "table/"+name, strconv.FormatInt(n, 10))
}

func (t mapTable) Watch(ctx context.Context, f func(func(string) int64)) {
	t.WatchPrefix(ctx, "table/", func(key string, v any) bool {
		f(func(name string) int64 {
			if "table/"+name != key {
				return 0
			}
			n, _ := number(v)
			return n
		})
		return true
	})
}

// Candidate implements Elector.
func (s *mapStore) Candidate(context.Context, string, time.Duration) (Candidate, error) {
	return mapCandidate{s.lead}, nil
}

type mapCandidate struct{ lead chan struct{} }

func (c mapCandidate) Campaign(ctx context.Context) error {
	select {
	case c.lead <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c mapCandidate) Resign(context.Context) error { <-c.lead; return nil }
func (c mapCandidate) Abandon() error               { <-c.lead; return nil }

func (s *mapStore) open(Target) (Store, error) { return s, nil }
func (s *mapStore) Client() (Client, error)    { return s, nil }
func (s *mapStore) Close() error               { s.closures++; return nil }

func (s *mapStore) List(_ context.Context, prefix string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (s *mapStore) Get(_ context.Context, key string) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.values[key]; ok {
		return v, nil
	}
	return nil, nil
}

var errUnlucky = errors.New("unlucky")

func (s *mapStore) CAS(_ context.Context, key string, f func(any) (any, bool, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.unlucky > 0 && s.writes%s.unlucky == 0 {
		return errUnlucky
	}
	var in any
	if v, ok := s.values[key]; ok {
		in = v
	}
	out, _, err := f(in)
	if err != nil || s.forgets && in != nil {
		return err
	}
	s.values[key] = out.(string)
	s.version++
	s.changed.Broadcast()
	return nil
}

func (s *mapStore) WatchKey(ctx context.Context, key string, f func(any) bool) {
	s.WatchPrefix(ctx, key, func(_ string, v any) bool { return f(v) })
}

func (s *mapStore) WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool) {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})()
	shown := map[string]string{}
	for ctx.Err() == nil {
		s.mu.Lock()
		news := map[string]string{}
		for key, v := range s.values {
			if strings.HasPrefix(key, prefix) && shown[key] != v {
				news[key] = v
			}
		}
		if len(news) == 0 && ctx.Err() == nil {
			s.changed.Wait()
		}
		s.mu.Unlock()
		for key, v := range news {
			shown[key] = v
			f(key, v)
		}
	}
}

// specs is every work, small.
func specs() []Spec {
	return []Spec{
		{Work: "cas", Callers: 4, Clients: 2, Keys: 2},
		{Work: "cas", Keys: 40, ValueBytes: 100},
		{Work: "get", Callers: 4, Keys: 8},
		{Work: "list", Keys: 20, Writes: 30},
		{Work: "notify"},
		{Work: "notify", Keys: 20},
		{Work: "prefixwatch", Callers: 4, Keys: 10, Writes: 50},
		{Work: "fanout", Watchers: 5},
		{Work: "restart", Keys: 5, Watchers: 3},
		{Work: "sessions", Keys: 5, Watchers: 3},
		{Work: "followed", Keys: 5, Callers: 2},
		{Work: "own"},
		{Work: "handover", TTL: 1},
		{Work: "takeover", TTL: 1},
		{Work: "keymemory", Keys: 50},
		{Work: "watchmemory", Watchers: 5},
		{Work: "gossip", Nodes: 3, Keys: 4, Writes: 200},
		{Work: "gossipidle", Nodes: 2},
		{Work: "gossipget", Nodes: 1, Keys: 3},
	}
}

func TestEveryWork(t *testing.T) {
	for _, spec := range specs() {
		t.Run(spec.Work, func(t *testing.T) {
			spec.Prefix, spec.Seconds = "test", 0.05
			s := newMapStore()
			sample, done, err := Prepare(t.Context(), s.open, Target{Backend: "memory"}, spec)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got, err := sample(t.Context())
				if err != nil || got.Calls <= 0 || got.Seconds <= 0 || got.Allocs < 0 || got.Failed > 0 || got.Lost > 0 {
					t.Fatalf("%+v, %v", got, err)
				}
				for name, value := range got.Values {
					if value < 0 && name != "bytes" || value == 0 && name == "p50" {
						t.Errorf("%s is %v", name, value)
					}
				}
			}
			if err := done(); err != nil || s.closures != 1 {
				t.Errorf("the store was closed %d times, %v", s.closures, err)
			}
		})
	}
	covered := map[string]bool{}
	for _, spec := range specs() {
		covered[spec.Work] = true
	}
	for _, name := range names() {
		if !covered[name] {
			t.Errorf("no test does the work %s", name)
		}
	}
}

func TestLostAndFailedWritesAreCounted(t *testing.T) {
	s := newMapStore()
	sample, done, err := Prepare(t.Context(), s.open, Target{}, Spec{Work: "cas", Seconds: 0.02})
	if err != nil {
		t.Fatal(err)
	}
	s.forgets = true
	if got, err := sample(t.Context()); err != nil || got.Lost != got.Calls || got.Lost == 0 {
		t.Errorf("of %d writes that were not made, %d count as lost: %v", got.Calls, got.Lost, err)
	}
	s.forgets, s.unlucky = false, 2
	if got, err := sample(t.Context()); err != nil || got.Failed == 0 || got.Lost != 0 {
		t.Errorf("%d failed and %d lost, though every other fails: %v", got.Failed, got.Lost, err)
	}
	s.unlucky = 1
	if _, err := sample(t.Context()); !errors.Is(err, errUnlucky) {
		t.Errorf("a sample without a success: %v", err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
}

// TestServe has the conversation that the benchmark has with a contestant.
func TestServe(t *testing.T) {
	s := newMapStore()
	in, requests := io.Pipe()
	var answers bytes.Buffer
	served := make(chan error)
	go func() { served <- Serve(in, &answers, s.open) }()
	spec := &Spec{Work: "get", Prefix: "p", Seconds: 0.01, Keys: 3}
	for _, r := range []Request{
		{Do: "sample"},
		{Do: "prepare", Target: &Target{}, Spec: &Spec{Work: "sleep"}},
		{Do: "prepare", Target: &Target{}, Spec: spec},
		{Do: "prepare", Target: &Target{}, Spec: spec},
		{Do: "sample"},
	} {
		if err := json.NewEncoder(requests).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	_ = requests.Close()
	select {
	case err := <-served:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Serve goes on after the end of its input")
	}
	if s.closures != 1 {
		t.Errorf("the store was closed %d times", s.closures)
	}
	var got []Answer
	for d := json.NewDecoder(&answers); d.More(); {
		var a Answer
		if err := d.Decode(&a); err != nil {
			t.Fatal(err)
		}
		got = append(got, a)
	}
	if len(got) != 5 || got[0].Error == "" || !strings.Contains(got[1].Error, "there are cas,") ||
		got[2].Error != "" || got[3].Error == "" || got[4].Sample == nil || got[4].Sample.Calls == 0 {
		t.Errorf("%+v", got)
	}
}

func TestNumbers(t *testing.T) {
	e := &env{Spec: Spec{ValueBytes: 50}}
	if v := e.value(123); len(v) != 50 {
		t.Errorf("a value of %d bytes, want 50", len(v))
	}
	for _, n := range []int64{0, 7, 1 << 40} {
		if got, err := number(e.value(n)); got != n || err != nil {
			t.Errorf("%d reads %d, %v", n, got, err)
		}
	}
	if _, err := number(3); err == nil {
		t.Error("a value that isn't a string is no error")
	}
}

func TestQuantiles(t *testing.T) {
	var d durations
	for i := range 1000 {
		d = append(d, time.Duration(1000-i)*time.Millisecond)
	}
	if got := d.quantiles(); got["p50"] != 0.501 || got["p99"] != 0.991 {
		t.Errorf("%v", got)
	}
}
