package kv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// onMemory returns a client of its own store.
func onMemory(t testing.TB, c codec.Codec, opts *kv.Options) kv.Client {
	client := kv.New(inmemory.NewStore().Open(), c, opts)
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

type counter struct{ N int }

func TestTypedUpdateIsAtomic(t *testing.T) {
	ctx := t.Context()
	counters := kv.Typed[*counter](onMemory(t, codec.JSON[*counter]{}, nil))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				err := counters.Update(ctx, "n", func(old *counter, exists bool) (*counter, kv.Action, error) {
					if !exists {
						old = new(counter)
					}
					old.N++ // its own copy
					return old, kv.Put, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n, ok, err := counters.Get(ctx, "n"); err != nil || !ok || n.N != 400 {
		t.Errorf("Get = %v, %v, %v, want 400", n, ok, err)
	}
	if err := counters.Update(ctx, "n", func(*counter, bool) (*counter, kv.Action, error) {
		return nil, kv.Remove, nil
	}); err != nil {
		t.Error(err)
	}
	if n, ok, err := counters.Get(ctx, "n"); n != nil || ok || err != nil {
		t.Errorf("Get after Remove = %v, %v, %v", n, ok, err)
	}
}

func TestTypedMessages(t *testing.T) {
	ctx := t.Context()
	timeouts := kv.Typed[*durationpb.Duration](onMemory(t, codec.Proto[*durationpb.Duration]{}, nil))
	put := func(key string, d time.Duration) {
		t.Helper()
		if err := timeouts.Update(ctx, key, func(*durationpb.Duration, bool) (*durationpb.Duration, kv.Action, error) {
			return durationpb.New(d), kv.Put, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	put("zero", 0) // nothing set: no bytes at all
	put("hour", time.Hour)
	if d, ok, err := timeouts.Get(ctx, "zero"); err != nil || !ok || d.AsDuration() != 0 {
		t.Errorf("Get = %v, %v, %v", d, ok, err)
	}
	var got []string
	for e, err := range timeouts.Entries(ctx, "") {
		got = append(got, fmt.Sprint(e.Key, " ", e.Value.AsDuration(), " ", e.Version != 0, " ", err))
	}
	if want := []string{"hour 1h0m0s true <nil>", "zero 0s true <nil>"}; !slices.Equal(got, want) {
		t.Errorf("Entries yielded %q, want %q", got, want)
	}
}

func TestRetryIsBounded(t *testing.T) {
	users := kv.Typed[string](onMemory(t, codec.String{}, &kv.Options{
		MaxAttempts: 3, MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond,
	}))
	calls := 0
	update := func(err error) error {
		calls = 0
		return users.Update(t.Context(), "k", func(string, bool) (string, kv.Action, error) {
			calls++
			return "", kv.Put, err
		})
	}
	if err := update(kv.Retry(io.EOF)); calls != 3 || !errors.Is(err, io.EOF) {
		t.Errorf("called %d times, then %v, want 3 times and EOF", calls, err)
	}
	if err := update(io.EOF); calls != 1 || !errors.Is(err, io.EOF) {
		t.Errorf("unmarked: called %d times, then %v, want once and EOF", calls, err)
	}
}

func TestTypedUpdateOfAWrongTypeIsNotRetried(t *testing.T) {
	c := onMemory(t, codec.String{}, nil)
	if err := c.CAS(t.Context(), "k", set("text")); err != nil {
		t.Fatal(err)
	}
	err := kv.Typed[int](c).Update(t.Context(), "k", func(int, bool) (int, kv.Action, error) { return 1, kv.Put, nil })
	if err == nil || !strings.Contains(err.Error(), "type int, got string") {
		t.Errorf("reading: %v, want an error that names both types", err)
	}
	err = kv.Typed[int](c).Update(t.Context(), "new", func(int, bool) (int, kv.Action, error) { return 1, kv.Put, nil })
	if err == nil || !strings.Contains(err.Error(), "int") {
		t.Errorf("writing: %v, want the codec's error", err)
	}
	if keys, err := c.List(t.Context(), ""); !slices.Equal(keys, []string{"k"}) || err != nil {
		t.Errorf("List = %q, %v", keys, err)
	}
}

func TestTypedWatchOverTheEngine(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := newRig(t, kv.Options{MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond})
	errDown := errors.New("down")
	sessions := 0
	r.store.onWatch = func(_ context.Context, _ driver.WatchRequest, _ func(driver.Event), do func() error) error {
		if sessions++; sessions == 1 {
			return errDown
		}
		return do()
	}
	r.put(r.client, "a", "1")
	var got []string
	var last error
	for event, err := range kv.Typed[string](r.client).Watch(ctx, kv.PrefixRange("")) {
		got = append(got, fmt.Sprint(event.Type, " ", event.Key, " ", event.Value))
		last = err
		switch event.Type {
		case kv.Interrupted:
			if !errors.Is(err, errDown) {
				t.Errorf("interrupted by %v", err)
			}
		case kv.Synced:
			if err := r.client.Delete(ctx, "a"); err != nil { // the body may use the client
				t.Error(err)
			}
		case kv.Delete:
			cancel()
		default:
		}
	}
	want := []string{"interrupted  ", "put a 1", "synced  ", "delete a ", "invalid  "}
	if !slices.Equal(got, want) || !errors.Is(last, context.Canceled) {
		t.Errorf("got %q, want %q; the last error is %v", got, want, last)
	}
}

func TestTypedWatchUndecodable(t *testing.T) {
	store := inmemory.NewStore()
	c := kv.New(store.Open(), codec.JSON[counter]{}, nil)
	defer c.Close()
	raw, err := kv.Raw(c)
	if err != nil {
		t.Fatal(err)
	}
	for key, stored := range map[string]string{"a": "{", "b": `{"N":7}`} {
		if err := putting(t.Context(), raw, key, []byte(stored)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for event, err := range kv.Typed[counter](c).Watch(t.Context(), kv.PrefixRange("")) {
		got = append(got, fmt.Sprint(event.Type, " ", event.Key, " ", event.Value.N, " ", err != nil))
		if event.Type == kv.Synced {
			break
		}
	}
	if want := []string{"undecodable a 0 true", "put b 7 false", "synced  0 false"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTypedWatchLastItem(t *testing.T) {
	last := func(c kv.Client, r kv.Range, inBody func()) (items int, last error) {
		for event, err := range kv.Typed[string](c).Watch(t.Context(), r) {
			items++
			if event.Type != 0 {
				inBody()
				continue
			}
			last = err
		}
		return items, last
	}
	c := onMemory(t, codec.String{}, nil)
	if n, err := last(c, kv.KeyRange("a//b"), nil); n != 1 || !errors.Is(err, kv.ErrInvalidKey) {
		t.Errorf("invalid key: %d items, %v", n, err)
	}
	if n, err := last(c, kv.KeyRange("a"), func() { _ = c.Close() }); n != 2 || !errors.Is(err, kv.ErrClosed) {
		t.Errorf("closed in the body: %d items, %v", n, err)
	}
	if n, err := last(c, kv.KeyRange("a"), nil); n != 1 || !errors.Is(err, kv.ErrClosed) {
		t.Errorf("closed before: %d items, %v", n, err)
	}
}
