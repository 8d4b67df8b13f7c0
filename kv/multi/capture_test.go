package multi_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
)

// counted counts the requests for users' keys.
type counted struct {
	driver.Store
	gets, swaps *atomic.Int64
}

func (c counted) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	if !isOwn(r.Key) {
		c.gets.Add(1)
	}
	return c.Store.Get(ctx, r)
}

func (c counted) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if !isOwn(s.Key) {
		c.swaps.Add(1)
	}
	return c.Store.Swap(ctx, s)
}

// requests are those at both stores.
type requests struct{ gets, swaps [2]atomic.Int64 }

func (r *requests) at(i int, s driver.Store) driver.Store { return counted{s, &r.gets[i], &r.swaps[i]} }

// of counts those that f makes.
func (r *requests) of(f func()) string {
	for i := range r.gets {
		r.gets[i].Store(0)
		r.swaps[i].Store(0)
	}
	f()
	return fmt.Sprintf("primary: %d swaps, %d reads; secondary: %d swaps, %d reads",
		r.swaps[0].Load(), r.gets[0].Load(), r.swaps[1].Load(), r.gets[1].Load())
}

const oneCheck = "primary: 1 swaps, 1 reads; secondary: 1 swaps, 0 reads"

// Mirroring costs a steady write one round trip to the secondary, and one read
// of the primary for the check.
func TestMirroringCostsOneTripAndOneCheck(t *testing.T) {
	for name, coordinated := range map[string]bool{"by hand": false, "coordinated": true} {
		t.Run(name, func(t *testing.T) {
			var n requests
			var c *multi.Client
			if coordinated {
				c = newRig(t).client(n.at)
			} else {
				c = newPair(t).open(multi.DefaultConfig(), n.at)
			}
			eventually(t, "the client mirrors", func() bool { return c.Status().Mirror == "second" })
			raw, err := kv.Raw(c)
			if err != nil {
				t.Fatal(err)
			}
			put(t, c, "k", "1") // now both engines know the key
			for i, write := range []func(){
				func() { put(t, c, "k", "2") },
				func() { put(t, c, "k", "3") },
				func() {
					if err := raw.CAS(t.Context(), "k", func(in any) (any, bool, error) {
						clear(in.([]byte)) // it is the callback's own
						return []byte("4"), false, nil
					}); err != nil {
						t.Error(err)
					}
				},
				func() {
					if err := c.CAS(t.Context(), "k", func(any) (any, bool, error) { return kv.Remove, false, nil }); err != nil {
						t.Error(err)
					}
				},
				func() { put(t, c, "k", "5") },
			} {
				if got := n.of(write); got != oneCheck {
					t.Errorf("write %d: %s", i, got)
				}
			}
			if got := n.of(func() {
				if err := c.Delete(t.Context(), "k"); err != nil {
					t.Error(err)
				}
			}); got != oneCheck {
				t.Errorf("Delete: %s", got)
			}
			if _, differences, err := c.Verify(t.Context()); err != nil || len(differences) > 0 {
				t.Errorf("the stores differ: %v, %v", differences, err)
			}
		})
	}
}

// A captured change is not altered by what the caller does to its value afterwards.
func TestChangesAreNobodyElses(t *testing.T) {
	p, cfg := newPair(t), multi.DefaultConfig()
	cfg.MirrorWorkers, cfg.MirrorAsync = 1, true
	inside, goOn := make(chan struct{}), make(chan struct{})
	c := p.open(cfg, func(at int, s driver.Store) driver.Store {
		if at == 0 {
			return s
		}
		return &hooked{Store: s, beforeSwap: func(s driver.Swap) error {
			if s.Key == "busy" {
				close(inside)
				<-goOn
			}
			if string(s.Value) == "changed" {
				t.Errorf("%q was mirrored", s.Value)
			}
			return nil
		}}
	})
	raw, err := kv.Raw(c)
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, "k", "first")
	eventually(t, "the first write is mirrored", func() bool { return c.Status().Mirrors[1].Backlog == 0 })
	put(t, c, "busy", "v")
	<-inside // the only worker is held up
	value := []byte("written")
	if err := raw.CAS(t.Context(), "k", func(any) (any, bool, error) { return value, false, nil }); err != nil {
		t.Fatal(err)
	}
	copy(value, "changed")
	close(goOn)
	eventually(t, "the write is mirrored", func() bool { return get(t, p.plain[1], "k") == "written" })
}

// What callbacks see and how values fail is the same whether a CAS is made on
// values or, to be mirrored, on bytes.
func TestMirroredWritesFailAsOthers(t *testing.T) {
	p := newPair(t)
	off := multi.DefaultConfig()
	off.Mirror = false
	number := codec.JSON[int]{}
	open := func(cfg multi.Config) kv.Client {
		c, err := multi.New(cfg, []multi.Backend{
			{Name: "first", Client: kv.New(p.stores[0].Open(), number, nil)},
			{Name: "second", Client: kv.New(p.stores[1].Open(), number, nil)},
		}, multi.WithLogger(quiet))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	mirrored, plain := open(multi.DefaultConfig()), open(off)
	put(t, p.plain[0], "bad", "no number")
	put(t, p.plain[0], "good", "1")
	mine := errors.New("the callback's own")
	for name, c := range map[string]struct {
		key string
		out any
		err error
	}{
		"can't be decoded": {"bad", 1, nil},
		"wrong type":       {"good", "text", nil},
		"its own":          {"good", nil, mine},
	} {
		write := func(c2 kv.Client) error {
			return c2.CAS(t.Context(), c.key, func(any) (any, bool, error) { return c.out, false, c.err })
		}
		want, got := write(plain), write(mirrored)
		if want == nil || got == nil || want.Error() != got.Error() || errors.Is(got, mine) != errors.Is(want, mine) {
			t.Errorf("%s: mirrored: %v\nnot mirrored: %v", name, got, want)
		}
	}
}
