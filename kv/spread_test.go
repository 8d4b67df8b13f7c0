package kv_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// A thousand processes that follow the same range lose their server at one
// moment, and read the range again evenly over a second for each MiB of it: in
// no tenth of that time twice as many as on the average.
func TestFleetReadsAgainEvenly(t *testing.T) {
	const clients, parts = 1000, 10
	for name, c := range map[string]struct {
		bytes int
		over  time.Duration
	}{
		"1 MiB":        {1 << 20, time.Second},
		"20 MiB":       {20 << 20, 20 * time.Second},
		"more than 30": {50 << 20, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fleetServer{times: c.bytes >> 16, lost: make(chan struct{})}
				ctx, cancel := context.WithCancel(t.Context())
				var watches sync.WaitGroup
				for range clients {
					watches.Go(func() {
						client := kv.New(server, stringCodec, &kv.Options{Logger: slog.New(slog.DiscardHandler), ShareBytes: -1, CompareWatches: -1})
						_ = kv.Watch(ctx, client, kv.PrefixRange(""), func(kv.Event) bool { return true })
						_ = client.Close()
					})
				}
				synctest.Wait()
				began := time.Now()
				close(server.lost)
				time.Sleep(2 * c.over)
				server.mu.Lock()
				defer server.mu.Unlock()
				if len(server.reads) != clients {
					t.Errorf("%d clients read again within %v", len(server.reads), 2*c.over)
				}
				var peak [parts + 1]int
				for _, at := range server.reads {
					peak[min(int(at.Sub(began)*parts/c.over), parts)]++
				}
				for i, n := range peak {
					if n >= 2*clients/parts {
						t.Errorf("%d clients read in part %d of %d: %v", n, i, parts, peak)
					}
				}
				cancel()
				watches.Wait()
			})
		})
	}
}

// fleetServer is a store with a large snapshot, which all lose at once.
type fleetServer struct {
	driver.Store     // nil: what is not asked for
	times        int // that a snapshot has 64 KiB, of one key, so that nobody must keep them
	lost         chan struct{}

	mu    sync.Mutex
	reads []time.Time // after it was lost
}

func (s *fleetServer) Limits() driver.Limits { return driver.Limits{} }
func (s *fleetServer) Close() error          { return nil }

func (s *fleetServer) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	first := req.BeforeSnapshot == nil
	if !first {
		if err := req.BeforeSnapshot(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		s.reads = append(s.reads, time.Now())
		s.mu.Unlock()
	}
	value := make([]byte, 1<<16)
	for range s.times {
		emit(driver.Event{Type: driver.Put, Entry: driver.Entry{Key: "k", Value: value, Version: 1}})
	}
	emit(driver.Event{Type: driver.Synced})
	if first {
		select {
		case <-s.lost:
			return errors.New("the server is away")
		case <-ctx.Done():
		}
	}
	<-ctx.Done()
	return ctx.Err()
}
