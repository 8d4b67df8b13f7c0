package kv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

// version writes a key and returns the version of that.
func (r *rig) version(key, value string) kv.Version {
	r.t.Helper()
	v, err := kv.Versioned(r.other)
	if err != nil {
		r.t.Fatal(err)
	}
	_, prev, err := v.GetVersion(r.t.Context(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	now, err := v.SwapVersion(r.t.Context(), key, prev, value)
	if err != nil {
		r.t.Fatal(err)
	}
	return now
}

func ready[T any](t *testing.T, f *kv.FollowerOf[T]) {
	t.Helper()
	t.Cleanup(f.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := f.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	r := newRig(t, kv.Options{})
	for _, key := range []string{"p/b", "p/a", "q"} {
		r.put(r.other, key, "1")
	}
	f := kv.Follow(t.Context(), r.client, kv.PrefixRange("p/"))
	ready(t, f)
	var keys []string
	for key, value := range f.Entries() {
		keys = append(keys, key+"="+fmt.Sprint(value))
	}
	if _, outside := f.Get("q"); outside || f.Len() != 2 || !slices.Equal(keys, []string{"p/a=1", "p/b=1"}) {
		t.Fatalf("the copy has %d keys: %q", f.Len(), keys)
	}
	if since, why := f.Behind(); !since.IsZero() || why != nil {
		t.Errorf("behind since %v, %v", since, why)
	}
	v := r.version("p/a", "2")
	if err := f.WaitFor(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if got, ok := f.Get("p/a"); got != "2" || !ok || f.Version() != v {
		t.Errorf("after version %d the copy has %v, %v, at %d", v, got, ok, f.Version())
	}
	// A write of the same bytes is no change, but a version.
	changed := f.Changed()
	if err := f.WaitFor(t.Context(), r.version("p/a", "2")); err != nil {
		t.Fatal(err)
	}
	<-changed
	if err := r.other.Delete(t.Context(), "p/b"); err != nil {
		t.Fatal(err)
	}
	for changed := f.Changed(); f.Len() != 1; changed = f.Changed() {
		receive(t, "change", changed)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := f.WaitFor(ctx, v+1000); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a version that never comes: %v", err)
	}
	f.Close()
	if err := f.WaitFor(t.Context(), v+1000); !errors.Is(err, context.Canceled) || f.Err() == nil {
		t.Errorf("waiting after Close: %v, %v", err, f.Err())
	}
	if got, _ := f.Get("p/a"); got != "2" {
		t.Errorf("after Close the copy has %v", got)
	}
}

func TestFollowSaysHowFarItIsBehind(t *testing.T) {
	r := newRig(t, kv.Options{MinBackoff: time.Millisecond})
	breakNow := breakable(r)
	r.put(r.other, "k", "1")
	f := kv.Follow(t.Context(), r.client, kv.PrefixRange(""))
	ready(t, f)
	changed := f.Changed()
	lost := errors.New("the server is gone")
	breakNow <- lost
	receive(t, "change", changed)
	if since, why := f.Behind(); !since.IsZero() && !errors.Is(why, lost) {
		t.Errorf("behind since %v, %v", since, why)
	}
	eventually(t, "the copy is in step again", func() bool { since, _ := f.Behind(); return since.IsZero() })
	if err := r.client.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end is told", func() bool { return errors.Is(f.Err(), kv.ErrClosed) })
	if since, why := f.Behind(); since.IsZero() || !errors.Is(why, kv.ErrClosed) {
		t.Errorf("after the end behind since %v, %v", since, why)
	}
}

// Whoever waits for a version sees that write, whatever else changes, and
// through sessions that break off.
func TestFollowReadsItsWrites(t *testing.T) {
	r := newRig(t, kv.Options{MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond})
	breakNow := breakable(r)
	f := kv.Follow(t.Context(), r.client, kv.PrefixRange(""))
	ready(t, f)
	stop := make(chan struct{})
	var breaking sync.WaitGroup
	breaking.Go(func() {
		for {
			select {
			case breakNow <- errStop:
				time.Sleep(time.Millisecond) // between two breaks
			case <-stop:
				return
			}
		}
	})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 200 {
				key := fmt.Sprintf("k%d", (w*7+i)%5+w*5)
				v := r.version(key, strconv.Itoa(i))
				if err := f.WaitFor(t.Context(), v); err != nil {
					t.Error(err)
				}
				got, _ := f.Get(key)
				if n, _ := strconv.Atoi(fmt.Sprint(got)); n < i {
					t.Errorf("after version %d of %q, %d, the copy has %v", v, key, i, got)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	breaking.Wait()
}

func TestFollowTyped(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.other, "a", "1")
	f := kv.Typed[string](r.client).Follow(t.Context(), kv.PrefixRange(""))
	ready(t, f)
	if s, ok := f.Get("a"); s != "1" || !ok {
		t.Errorf("the copy has %q, %v", s, ok)
	}
	wrong := kv.Typed[int](r.client).Follow(t.Context(), kv.PrefixRange(""))
	ready(t, wrong)
	if wrong.Len() != 0 {
		t.Errorf("the copy has %d values of another type", wrong.Len())
	}
}

func TestFollowNeedsAWatch(t *testing.T) {
	f := kv.Follow(t.Context(), struct{ kv.Client }{}, kv.PrefixRange(""))
	defer f.Close()
	if err := f.Ready(t.Context()); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("Ready = %v", err)
	}
	r := newRig(t, kv.Options{})
	bad := kv.Follow(t.Context(), r.client, kv.KeyRange("/"))
	defer bad.Close()
	if err := bad.Ready(t.Context()); !errors.Is(err, kv.ErrInvalidKey) {
		t.Errorf("Ready = %v", err)
	}
}

func BenchmarkFollowerGet(b *testing.B) {
	c := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer func() { _ = c.Close() }()
	keys := make([]string, 2000)
	for i := range keys {
		keys[i] = fmt.Sprintf("services/app/instance-%04d", i)
		if err := c.CAS(b.Context(), keys[i], set("v")); err != nil {
			b.Fatal(err)
		}
	}
	f := kv.Follow(b.Context(), c, kv.PrefixRange("services/"))
	defer f.Close()
	if err := f.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, ok := f.Get(keys[i%len(keys)]); !ok {
				b.Error("a key is missing")
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}
