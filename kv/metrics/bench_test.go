package metrics_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
)

// hotPaths are what happens on every call of a busy program.
func hotPaths(tb testing.TB) map[string]func() {
	m, _ := newMetrics(tb)
	o := m.Observer("b")
	c := m.Wrap(&failing{}, "b")
	broken := m.Wrap(&failing{err: &kv.Error{Op: "Get", Err: errors.New("broken")}}, "b")
	f := put("v")
	ctx := context.Background()
	return map[string]func(){
		"Get":        func() { _, _ = c.Get(ctx, "k") },
		"CAS":        func() { _ = c.CAS(ctx, "k", f) },
		"failed Get": func() { _, _ = broken.Get(ctx, "k") },
		"Request":    func() { o.Request(ctx, "k", "swap", time.Millisecond, nil) },
		"Swap":       func() { o.Swap(ctx, "k", "applied", 64) },
		"CAS seen":   func() { o.CAS(ctx, "k", 1, nil) },
		"WatchEvent": func() { o.WatchEvent(ctx, "k", "put", time.Millisecond) },
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	for name, call := range hotPaths(t) {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times a call", name, n)
		}
	}
}

func BenchmarkHotPaths(b *testing.B) {
	for name, call := range hotPaths(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}
