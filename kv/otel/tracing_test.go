package kvotel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
)

func newStore() driver.Store { return inmemory.NewStore().Open() }

// documented is wantTraces, and compares with what docs/operations.md shows.
func (r *rig) documented(name, want string) {
	r.t.Helper()
	r.wantTraces(want)
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		r.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "<!-- Trace: "+name+" -->\n\n```\n")
	if got, _, _ := strings.Cut(after, "```\n"); got != r.traces() {
		r.t.Errorf("docs/operations.md has, at \"Trace: %s\",\n%s\nand not\n%s", name, got, r.traces())
	}
}

func TestReadsAndDelete(t *testing.T) {
	r := newRig(t, kv.Options{}, codec.String{})
	defer r.client.Close()
	r.within("A", func(ctx context.Context) {
		_, err := r.client.Get(ctx, "k")
		_, err2 := r.client.List(ctx, "k")
		err3 := r.client.Delete(ctx, "k")
		if err := errors.Join(err, err2, err3, kv.Ping(ctx, r.client)); err != nil {
			t.Error(err)
		}
		for _, err := range kv.Entries(ctx, r.client, "") {
			t.Error("an entry", err)
		}
		raw, err := kv.Raw(r.client)
		if err != nil {
			t.Fatal(err)
		}
		versioned, err := kv.Versioned(raw)
		if err != nil {
			t.Fatal(err)
		}
		version, err := versioned.SwapVersion(ctx, "v", 0, []byte("v"))
		if err != nil {
			t.Error(err)
		}
		if _, _, err := versioned.GetVersion(ctx, "v", kv.Guard{Key: "v", Version: version}); err != nil {
			t.Error(err)
		}
	})
	r.wantTraces(`
		A
		  kv.Get key=k
		    store.get etcd key=k
		  kv.List prefix=k
		    store.scan etcd prefix=k
		  kv.Delete key=k
		    store.get etcd key=k
		  kv.Ping
		    store.get etcd key=.polykv/ping
		  kv.Entries prefix=
		    store.scan etcd prefix=
		  kv.SwapVersion key=v
		    store.swap etcd key=v outcome=applied callers=1
		  kv.GetVersion key=v
		    store.get etcd key=v
	`)
}

// A watch whose session is lost: each session is a trace of its own, as is each
// call of the callback.
func TestWatchWithAResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{}, codec.String{})
		defer r.client.Close()
		r.line.onWatch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
			r.line.onWatch = nil
			_, span := r.app.Start(ctx, "etcdserverpb.Watch/Watch")
			defer span.End()
			session, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_ = r.line.Store.Watch(session, req, emit)
			return errors.New("the connection was reset")
		}
		if err := r.client.CAS(t.Context(), "k", put("1")); err != nil {
			t.Fatal(err)
		}
		r.recorder.Reset()
		r.within("A", func(ctx context.Context) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			time.AfterFunc(time.Minute, func() {
				if err := r.client.CAS(context.Background(), "k", put("2")); err != nil {
					t.Error(err)
				}
			})
			r.client.WatchPrefix(ctx, "k", func(_ string, value any) bool { return value != "2" })
		})
		synctest.Wait()
		r.documented("watch", `
			A
			  kv.WatchPrefix prefix=k polykv.synced polykv.interrupted polykv.synced -> store.watch -> store.watch
			store.watch etcd prefix=k error=other -> A/kv.WatchPrefix
			  etcdserverpb.Watch/Watch
			kv.Watch callback key=k event=put -> A/kv.WatchPrefix
			store.watch etcd prefix=k -> A/kv.WatchPrefix
			kv.CAS key=k
			  kv.CAS callback key=k decision=put
			  store.swap etcd key=k outcome=applied callers=1
			kv.Watch callback key=k event=put -> A/kv.WatchPrefix
		`)
		if text := r.spans("store.watch")[0].Status().Description; text != "the connection was reset" {
			t.Errorf("the first session ended by %q", text)
		}
	})
}

// A write of a client of two stores, and the attempt to mirror it that it waits
// for.
func TestMirroredWrite(t *testing.T) {
	r := newRig(t, kv.Options{}, codec.String{})
	_ = r.client.Close()
	side := func(name string) multi.Backend {
		return multi.Backend{Name: name, Client: kv.New(newStore(), codec.String{}, &kv.Options{Backend: name, Observer: r.tracing})}
	}
	cfg := multi.DefaultConfig()
	cfg.MirrorTimeout = time.Minute
	two, err := multi.New(cfg, []multi.Backend{side("etcd"), side("consul")},
		multi.WithTracer(r.tracing), multi.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	client := r.tracing.Wrap(two, "multi")
	r.within("A", func(ctx context.Context) {
		if err := client.CAS(ctx, "k", put("v")); err != nil {
			t.Error(err)
		}
	})
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	r.documented("mirrored", `
		A
		  kv.CAS key=k -> mirror
		    store.get etcd key=k
		    kv.CAS callback key=k decision=put
		    store.swap etcd key=k outcome=applied callers=1
		mirror store=consul key=k -> A/kv.CAS
		  store.get consul key=k
		  store.swap consul key=k outcome=applied callers=1
		  store.get etcd key=k
	`)
}

func TestErrorOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{RetryTimeout: time.Millisecond, MinBackoff: 10 * time.Millisecond}, codec.String{})
		defer r.client.Close()
		r.line.onGet = func(context.Context) error { return errors.New("connection refused") }
		r.within("A", func(ctx context.Context) {
			if _, err := r.client.Get(ctx, "k"); !errors.Is(err, kv.ErrUnavailable) {
				t.Error(err)
			}
		})
		r.wantTraces(`
			A
			  kv.Get key=k error=unavailable
			    store.get etcd key=k error=other
		`)
		if text := r.spans("store.get")[0].Status().Description; text != "connection refused" {
			t.Errorf("the request says %q", text)
		}
	})
}

// telltale is a codec whose errors quote the value.
type telltale struct{ codec.String }

func (telltale) Decode(b []byte) (any, error) { return nil, fmt.Errorf("%q is unreadable", b) }

// No value is in any span, whatever an error quotes.
func TestNoSpanHasAValue(t *testing.T) {
	const secret = "hunter2"
	r := newRig(t, kv.Options{}, telltale{})
	defer r.client.Close()
	if err := r.client.CAS(t.Context(), "k", put(secret)); err != nil {
		t.Fatal(err)
	}
	_, err := r.client.Get(t.Context(), "k")
	err2 := r.client.CAS(t.Context(), "new", func(any) (any, bool, error) { return nil, false, errors.New("I don't like " + secret) })
	ctx, cancel := context.WithCancel(t.Context())
	err3 := kv.Watch(ctx, r.client, kv.KeyRange("k"), func(ev kv.Event) bool {
		if ev.Type == kv.Undecodable {
			cancel()
		}
		return true
	})
	for _, err := range []error{err, err2} {
		if !strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("the error %v quotes no value, so this shows nothing", err)
		}
	}
	if !errors.Is(err3, context.Canceled) {
		t.Error(err3)
	}
	for _, s := range r.recorder.Ended() {
		if all := fmt.Sprint(s.Name(), s.Attributes(), s.Status(), s.Events(), s.Links()); strings.Contains(all, secret) {
			t.Errorf("a span shows a value: %s", all)
		}
	}
	if events := r.spans("kv.Watch")[0].Events(); len(events) == 0 || events[0].Name != "polykv.undecodable" {
		t.Errorf("the watch's span has the events %v", events)
	}
}
