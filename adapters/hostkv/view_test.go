package hostkv

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
)

// onMemory returns a view of a store in memory.
func onMemory(t *testing.T) *View {
	t.Helper()
	v, err := NewView(kv.New(inmemory.NewStore().Open(), guestCodec(), nil))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// onGossip returns a view of a node that is alone.
func onGossip(t *testing.T) *View {
	t.Helper()
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.BindAddress, cfg.BindPort = "node", "127.0.0.1", 0
	c, err := memberlist.Open(t.Context(), cfg, guestCodec(), nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewView(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// edit is a CAS as hosts write it: in place.
func edit(t *testing.T, v *View, f func(guests)) {
	t.Helper()
	err := v.CAS(t.Context(), "inn", func(in any) (any, bool, error) {
		g, ok := in.(guests)
		if !ok || g == nil {
			g = guests{}
		}
		f(g)
		return g, true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, v *View) guests {
	t.Helper()
	value, err := v.Get(t.Context(), "inn")
	if err != nil {
		t.Fatal(err)
	}
	g, ok := value.(guests)
	if !ok {
		t.Fatalf("got a %T, not the host's own type", value)
	}
	return g
}

func TestValuesAreTheHostsAndTheCallersOwn(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *View{"memory": onMemory, "gossip": onGossip} {
		t.Run(name, func(t *testing.T) {
			v := open(t)
			defer v.Close()
			edit(t, v, func(g guests) { g["ann"], g["bob"] = stay{At: 1}, stay{At: 1} })
			delete(get(t, v), "ann")
			v.WatchKey(t.Context(), "inn", func(value any) bool {
				delete(value.(guests), "ann") //nolint:forcetypeassert // a panic is a failure
				return false
			})
			v.WatchPrefix(t.Context(), "", func(_ string, value any) bool {
				delete(value.(guests), "ann") //nolint:forcetypeassert // a panic is a failure
				return false
			})
			if len(get(t, v)) != 2 {
				t.Error("a caller changed what is stored")
			}
			edit(t, v, func(g guests) { delete(g, "ann") })
			if got := get(t, v); len(got) != 1 {
				t.Errorf("who was removed is still seen: %v", got)
			}
		})
	}
}

// TestTwoChangesWithinASecond: the second one must neither be lost nor fail.
func TestTwoChangesWithinASecond(t *testing.T) {
	v := onGossip(t)
	now := func() int64 { return time.Now().Unix() }
	edit(t, v, func(g guests) { g["ann"] = stay{At: now()} })
	began := time.Now()
	runs := 0
	edit(t, v, func(g guests) {
		runs++
		at := g["ann"].At
		if runs > 1 {
			at = now()
		}
		g["ann"] = stay{At: at}
		g["bob"] = stay{At: map[bool]int64{true: at, false: 0}[runs > 1]} // at first not taken
	})
	if got := get(t, v); runs != 2 || got["bob"].At == 0 {
		t.Errorf("after %d runs and %v: %v", runs, time.Since(began), got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := v.CAS(ctx, "inn", func(any) (any, bool, error) { return guests{"ann": {}, "bob": {}}, true, nil })
	if !errors.Is(err, ErrUnchanged) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a change that is never newer, and no time: %v", err)
	}
}

// TestPatienceEnds: a change that is never newer fails, after ten seconds.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &View{client: kv.SkipDeletes(stale{}), codec: guestCodec()}
		began := time.Now()
		err := v.CAS(t.Context(), "inn", func(any) (any, bool, error) { return guests{}, true, nil })
		if took := time.Since(began); !errors.Is(err, ErrUnchanged) || took < (maxChanges-2)*time.Second || took > maxChanges*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// stale is a client whose merger takes no change.
type stale struct{ kv.Client }

func (stale) CAS(_ context.Context, _ string, f func(any) (any, bool, error)) error {
	if _, _, err := f(nil); err != nil {
		return err
	}
	return ErrUnchanged
}

func TestErrorOfTheCallbackIsReturnedAsItIs(t *testing.T) {
	v := onMemory(t)
	defer v.Close()
	own := errors.New("another one is elected")
	if err := v.CAS(t.Context(), "inn", func(any) (any, bool, error) { return nil, false, own }); err != own { //nolint:errorlint // identity is the point
		t.Errorf("%v", err)
	}
}

func TestDeletionsAreNotTold(t *testing.T) {
	v := onMemory(t)
	defer v.Close()
	edit(t, v, func(g guests) { g["ann"] = stay{At: 1} })
	saw := 0
	v.WatchPrefix(t.Context(), "", func(_ string, value any) bool {
		if saw++; value == nil {
			t.Error("told of a deletion")
		}
		if saw == 1 {
			if err := v.Delete(t.Context(), "inn"); err != nil {
				t.Error(err)
			}
			edit(t, v, func(g guests) { g["bob"] = stay{At: 2} })
		}
		return saw < 2
	})
	if keys, err := v.List(t.Context(), "i"); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
}
