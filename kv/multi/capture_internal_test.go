package multi

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// heldUp is a store whose swaps wait for the test, and may be refused.
type heldUp struct {
	driver.Store
	swap func(driver.Swap) error
}

func (h heldUp) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if err := h.swap(s); err != nil {
		return driver.Result{Outcome: driver.NotApplied}, err
	}
	return h.Store.Swap(ctx, s)
}

// A change counts for a task that stands for the one write only. Here each change
// by itself would have the task leave the secondary as it is, which is wrong.
func TestChangesOfSeveralWritesDoNotCount(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	free := func(driver.Swap) error { return nil }
	for name, c := range map[string]struct {
		wants   []*side.Change
		refused bool // the first run fails
	}{
		"several writes": {wants: []*side.Change{
			{Before: []byte("A"), After: []byte("B")}, {Before: []byte("A"), After: []byte("C")}, {Before: []byte("B"), After: []byte("A")},
		}},
		"an unknown one among them": {wants: []*side.Change{nil, {Before: []byte("B"), After: []byte("A")}}},
		"a run that failed":         {wants: []*side.Change{{Before: []byte("A"), After: []byte("B")}}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			stores := [2]*inmemory.Store{inmemory.NewStore(), inmemory.NewStore()}
			open := func(at int, swap func(driver.Swap) error) kv.Client {
				return kv.New(heldUp{stores[at].Open(), swap}, codec.String{}, &kv.Options{Logger: quiet})
			}
			inside, goOn := make(chan struct{}), make(chan struct{})
			var refuse, busy sync.Once
			outside := [2]kv.Client{open(0, free), open(1, free)}
			write := func(at int, key, value string) {
				if err := outside[at].CAS(t.Context(), key, func(any) (any, bool, error) { return value, false, nil }); err != nil {
					t.Fatal(err)
				}
			}
			cfg := DefaultConfig()
			cfg.MirrorWorkers, cfg.MirrorMinBackoff = 1, time.Millisecond
			var client *Client
			client, err := New(cfg, []Backend{{Name: "first", Client: open(0, free)}, {Name: "second", Client: open(1, func(s driver.Swap) (err error) {
				switch {
				case s.Key == "busy":
					busy.Do(func() {
						close(inside)
						<-goOn
					})
				case c.refused:
					refuse.Do(func() {
						// A write of before, which tells late.
						client.core.mirror.add(t.Context(), 1, "k", &side.Change{Before: []byte("B"), After: []byte("A")})
						err = kv.ErrTooLarge
					})
				}
				return err
			})}}, WithLogger(quiet))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := errors.Join(client.Close(), outside[0].Close(), outside[1].Close()); err != nil {
					t.Error(err)
				}
			}()
			write(0, "busy", "v")
			client.core.mirror.add(t.Context(), 1, "busy", nil)
			<-inside // the only worker is held up
			write(1, "k", "A")
			write(0, "k", "C")
			var last <-chan struct{}
			for _, change := range c.wants {
				last = client.core.mirror.add(t.Context(), 1, "k", change)
			}
			close(goOn)
			<-last
			for deadline := time.Now().Add(30 * time.Second); client.core.mirror.backlog() > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("waited in vain for the mirror")
				}
			}
			if got, err := outside[1].Get(t.Context(), "k"); got != "C" || err != nil {
				t.Errorf("the secondary holds %v, %v; the primary C", got, err)
			}
		})
	}
}
