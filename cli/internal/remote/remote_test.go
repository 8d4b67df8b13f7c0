package remote

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 30 * time.Second

// counts is an observer.
type counts struct {
	kv.NopObserver
	applied, events atomic.Int64
}

func (c *counts) Swap(_ context.Context, _, outcome string, callers int) {
	if outcome == "applied" {
		c.applied.Add(int64(callers))
	}
}
func (c *counts) WatchEvent(context.Context, string, string, time.Duration) { c.events.Add(1) }

// far is a client whose Serve runs here, over pipes.
type far struct {
	kv.Client
	seen counts
	die  func() // as a killed process does
}

// start opens a client of a store in memory, or of what wrap makes of it.
func start(t *testing.T, wrap func(kv.Client) kv.Client) *far {
	t.Helper()
	in, parentOut := io.Pipe()
	parentIn, out := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), in, out, func(_ context.Context, config []byte, observer kv.Observer) (kv.Client, error) {
			if string(config) != `{"a":1}` {
				t.Errorf("the configuration came as %s", config)
			}
			client := kv.New(inmemory.NewStore().Open(), codec.String{}, &kv.Options{Observer: observer})
			if wrap != nil {
				client = wrap(client)
			}
			return client, nil
		})
		_ = out.Close()
	}()
	f := &far{}
	dead := errors.New("killed")
	f.die = func() { _ = out.CloseWithError(io.EOF); _ = in.CloseWithError(io.ErrClosedPipe) }
	var killed atomic.Bool
	die := f.die
	f.die = func() { killed.Store(true); die() }
	client, err := Open(t.Context(), Peer{Name: "process 7", In: parentOut, Out: parentIn, Kill: f.die, Wait: func() error {
		err := <-served
		if killed.Load() {
			return dead
		}
		return err
	}}, []byte(`{"a":1}`), &f.seen)
	if err != nil {
		t.Fatal(err)
	}
	f.Client = client
	t.Cleanup(func() {
		if err := client.Close(); err != nil && !killed.Load() {
			t.Error(err)
		}
	})
	return f
}

// fails is a client all of whose calls fail.
type fails struct {
	kv.Forward
	err error
}

func (f fails) Get(context.Context, string) (any, error)       { return nil, f.err }
func (f fails) List(context.Context, string) ([]string, error) { return nil, f.err }
func (f fails) Delete(context.Context, string) error           { return f.err }
func (f fails) CAS(context.Context, string, func(any) (any, bool, error)) error {
	return f.err
}

func put(value string) func(any) (any, bool, error) {
	return func(any) (any, bool, error) { return value, false, nil }
}

func TestOperations(t *testing.T) {
	f := start(t, nil)
	ctx := t.Context()
	if v, err := f.Get(ctx, "a"); v != nil || err != nil {
		t.Errorf("an absent key: %v, %v", v, err)
	}
	for key, value := range map[string]string{"a": "1", "b": "", "c": "not UTF-8: \xff"} {
		if err := f.CAS(ctx, key, put(value)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Get(ctx, key); got != value || err != nil {
			t.Errorf("%s is %q, %v", key, got, err)
		}
	}
	for _, out := range []any{nil, "2"} {
		err := f.CAS(ctx, "a", func(in any) (any, bool, error) {
			if in != "1" {
				t.Errorf("CAS saw %v", in)
			}
			return out, false, nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := f.CAS(ctx, "b", func(any) (any, bool, error) { return kv.Remove, false, nil }); err != nil {
		t.Error(err)
	}
	if keys, err := f.List(ctx, ""); !slices.Equal(keys, []string{"a", "c"}) || err != nil {
		t.Errorf("listed %q, %v", keys, err)
	}
	if err := f.Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
	if keys, err := f.List(ctx, "a"); keys == nil || len(keys) > 0 || err != nil {
		t.Errorf("listed %q, %v", keys, err)
	}
	if f.seen.applied.Load() < 5 {
		t.Errorf("the observer heard of %d writes", f.seen.applied.Load())
	}
}

func TestErrorsOfCallbacks(t *testing.T) {
	f := start(t, nil)
	mine := errors.New("mine")
	err := f.CAS(t.Context(), "k", func(any) (any, bool, error) { return nil, false, mine })
	if !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	times := 0
	err = f.CAS(t.Context(), "k", func(any) (any, bool, error) {
		if times++; times < 3 {
			return nil, true, mine
		}
		return "v", false, nil
	})
	if err != nil || times != 3 {
		t.Errorf("retried: %v after %d", err, times)
	}
	err = f.CAS(t.Context(), "k", func(any) (any, bool, error) { return 7, true, nil })
	if err == nil || !strings.Contains(err.Error(), "a value of type int") {
		t.Errorf("a number: %v", err)
	}
	func() {
		defer func() {
			if r := recover(); r != "mine" {
				t.Errorf("recovered %v", r)
			}
		}()
		_ = f.CAS(t.Context(), "k", func(any) (any, bool, error) { panic("mine") })
	}()
	if v, err := f.Get(t.Context(), "k"); v != "v" || err != nil {
		t.Errorf("after a panic: %v, %v", v, err)
	}
}

func TestSentinels(t *testing.T) {
	for name, sentinel := range sentinels {
		t.Run(name, func(t *testing.T) {
			want := &kv.Error{Op: "Op", Backend: "there", Key: "k", Err: sentinel}
			f := start(t, func(c kv.Client) kv.Client { return fails{kv.Forward{Client: c}, want} })
			_, get := f.Get(t.Context(), "k")
			_, list := f.List(t.Context(), "k")
			for _, err := range []error{get, list, f.Delete(t.Context(), "k"), f.CAS(t.Context(), "k", put("v"))} {
				if err == nil || err.Error() != want.Error() {
					t.Errorf("got %v", err)
				}
				for _, other := range sentinels {
					if errors.Is(err, other) != errors.Is(sentinel, other) {
						t.Errorf("%v matches %v: %v", err, other, errors.Is(err, other))
					}
				}
				var e *kv.Error
				if !errors.As(err, &e) || e.Key != "k" || e.Backend != "there" {
					t.Errorf("%#v", err)
				}
			}
		})
	}
}

func TestWatch(t *testing.T) {
	f := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, key := range []string{"p/a", "p/b", "q"} {
		if err := f.CAS(ctx, key, put("1")); err != nil {
			t.Fatal(err)
		}
	}
	picture := map[string]any{}
	f.WatchPrefix(ctx, "p/", func(key string, value any) bool {
		picture[key] = value
		if len(picture) == 2 && value == "1" { // f may use the client
			if err := errors.Join(f.Delete(ctx, "p/a"), f.CAS(ctx, "p/b", put("2"))); err != nil {
				t.Error(err)
			}
		}
		return picture["p/a"] != nil || picture["p/b"] != "2"
	})
	if !maps.Equal(picture, map[string]any{"p/a": nil, "p/b": "2"}) {
		t.Errorf("saw %v", picture)
	}
	var seen any
	f.WatchKey(ctx, "q", func(value any) bool { seen = value; return false })
	if seen != "1" {
		t.Errorf("saw %v", seen)
	}
	watching, stop := context.WithCancel(ctx)
	f.WatchKey(watching, "q", func(any) bool { stop(); return true })
	if ctx.Err() != nil {
		t.Error("a watch had to be stopped")
	}
	if f.seen.events.Load() == 0 {
		t.Error("the observer heard of no event")
	}
}

// stuck is a client whose calls last until their context ends.
type stuck struct {
	kv.Forward
	entered chan struct{}
}

func (s stuck) Get(ctx context.Context, _ string) (any, error) {
	s.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s stuck) Delete(ctx context.Context, _ string) error {
	_, err := s.Get(ctx, "")
	return err
}

func TestContext(t *testing.T) {
	s := stuck{entered: make(chan struct{}, 1)}
	f := start(t, func(c kv.Client) kv.Client { s.Client = c; return s })
	for _, call := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := f.Get(ctx, "k"); return err },
		func(ctx context.Context) error { return f.Delete(ctx, "k") },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-s.entered; cancel() }()
		if err := call(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, kv.ErrIndeterminate) {
			t.Errorf("got %v", err)
		}
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("before it began: %v", err)
		}
	}
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name        string
		end         func(*far)
		read, write []error
		text        string
	}{
		{"closed", func(f *far) { _ = f.Close() }, []error{kv.ErrClosed}, []error{kv.ErrClosed, kv.ErrIndeterminate}, "closed"},
		{"dead", func(f *far) { f.die() }, []error{kv.ErrUnavailable}, []error{kv.ErrUnavailable, kv.ErrIndeterminate}, "killed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := stuck{entered: make(chan struct{}, 3)}
			f := start(t, func(client kv.Client) kv.Client { s.Client = client; return s })
			reading, writing, watching := make(chan error, 1), make(chan error, 1), make(chan error, 1)
			go func() { _, err := f.Get(t.Context(), "k"); reading <- err }()
			go func() { writing <- f.Delete(t.Context(), "k") }()
			go func() { f.WatchKey(t.Context(), "k", func(any) bool { return true }); watching <- nil }()
			<-s.entered
			<-s.entered
			c.end(f)
			for i, got := range []chan error{reading, writing, watching} {
				select {
				case err := <-got:
					for _, want := range [][]error{c.read, c.write, nil}[i] {
						if !errors.Is(err, want) || !strings.Contains(err.Error(), "process 7") || !strings.Contains(err.Error(), c.text) {
							t.Errorf("call %d: %v", i, err)
						}
					}
				case <-time.After(limit):
					t.Fatalf("call %d didn't end", i)
				}
			}
			if err := f.CAS(t.Context(), "k", put("v")); !errors.Is(err, c.read[0]) || errors.Is(err, kv.ErrIndeterminate) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestOpenFails(t *testing.T) {
	in, parentOut := io.Pipe()
	parentIn, out := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), in, out, func(context.Context, []byte, kv.Observer) (kv.Client, error) {
			return nil, errors.Join(kv.ErrPermission)
		})
		_ = out.Close()
	}()
	peer := Peer{Name: "process 7", In: parentOut, Out: parentIn, Kill: func() {}, Wait: func() error { return <-served }}
	if _, err := Open(t.Context(), peer, []byte("{}"), kv.NopObserver{}); !errors.Is(err, kv.ErrPermission) || !strings.HasPrefix(err.Error(), "process 7: ") {
		t.Errorf("got %v", err)
	}
}

func FuzzServe(f *testing.F) {
	for _, text := range []string{
		"", "x", "{}\n{}", `{"config":1}{"call":1,"kind":"get","key":"YQ=="}{"call":1,"kind":"get"}`,
		`{}{"call":1,"kind":"cas","key":"YQ=="}{"call":1,"kind":"answer"}{"call":1,"kind":"answer"}`,
		`{}{"call":2,"kind":"watch"}{"call":2,"kind":"cancel"}{"call":2,"kind":"end"}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_ = Serve(t.Context(), strings.NewReader(text), io.Discard, func(context.Context, []byte, kv.Observer) (kv.Client, error) {
			return kv.New(inmemory.NewStore().Open(), codec.String{}, nil), nil
		})
	})
}

func FuzzOpen(f *testing.F) {
	for _, text := range []string{
		"", "x", `{"kind":"end"}`, `{"kind":"end"}{"call":1,"kind":"callback"}`, `{"kind":"end"}{"call":1,"kind":"bad"}`,
		`{"kind":"end"}{"call":1,"kind":"end","error":{"matches":["none"]},"seen":{"swaps":[{}]}}`, `{"kind":"end","error":{}}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		peer := Peer{Name: "p", In: nowhere{io.Discard}, Out: strings.NewReader(text), Kill: func() {}, Wait: func() error { return nil }}
		client, err := Open(t.Context(), peer, []byte("{}"), kv.NopObserver{})
		if err != nil {
			return
		}
		_, _ = client.Get(t.Context(), "k")
		_ = client.CAS(t.Context(), "k", put("v"))
		_ = client.Close()
	})
}

type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }
