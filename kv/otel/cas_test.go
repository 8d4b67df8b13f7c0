package kvotel_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	kvotel "github.com/polykv/polykv/kv/otel"
)

// The client library of a store makes spans of its own, below the request.
func TestCASAlone(t *testing.T) {
	r := newRig(t, kv.Options{}, codec.String{})
	r.line.onSwap = func(ctx context.Context) {
		_, span := r.app.Start(ctx, "etcdserverpb.KV/Txn")
		span.End()
	}
	defer r.client.Close()
	r.within("A", func(ctx context.Context) {
		if err := r.client.CAS(ctx, "k", put("v")); err != nil {
			t.Error(err)
		}
	})
	r.documented("alone", `
		A
		  kv.CAS key=k
		    store.get etcd key=k
		    kv.CAS callback key=k decision=put
		    store.swap etcd key=k outcome=applied callers=1
		      etcdserverpb.KV/Txn
	`)
	for name, kind := range map[string]trace.SpanKind{
		"kv.CAS": trace.SpanKindInternal, "kv.CAS callback": trace.SpanKindInternal, "store.swap": trace.SpanKindClient, "store.get": trace.SpanKindClient,
	} {
		if s := r.spans(name)[0]; s.SpanKind() != kind {
			t.Errorf("%s is of kind %v, not %v", name, s.SpanKind(), kind)
		}
	}
	swap := r.spans("store.swap")[0]
	if system, op := attributeOf(swap, "db.system.name"), attributeOf(swap, "db.operation.name"); system != "etcd" || op != "swap" {
		t.Errorf("the swap is of %q and named %q", system, op)
	}
}

// share has B and C, of which one has baggage of its own each, share a swap: they come while that
// of A is under way. It returns the baggage that the driver saw, swap by swap.
func share(t *testing.T, r *rig, begin func(name string, cas func(ctx context.Context))) (seen []string) {
	inSwap, goOn := make(chan struct{}), make(chan struct{})
	first := true
	r.line.onSwap = func(ctx context.Context) {
		seen = append(seen, baggage.FromContext(ctx).Member("caller").Value())
		if first {
			first = false
			close(inSwap)
			<-goOn
		}
	}
	var calls sync.WaitGroup
	for _, name := range []string{"A", "B", "C"} {
		calls.Go(func() {
			begin(name, func(ctx context.Context) {
				member, err := baggage.NewMember("caller", name)
				if err != nil {
					t.Error(err)
				}
				bag, err := baggage.New(member)
				if err != nil {
					t.Error(err)
				}
				if err := r.client.CAS(baggage.ContextWithBaggage(ctx, bag), "k", put(name)); err != nil {
					t.Error(err)
				}
			})
		})
		if name == "A" {
			<-inSwap
		}
		synctest.Wait()
	}
	close(goOn)
	calls.Wait()
	return seen
}

func TestTwoShareASwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{}, codec.String{})
		defer r.client.Close()
		seen := share(t, r, r.within)
		r.documented("shared", `
			A
			  kv.CAS key=k
			    store.get etcd key=k
			    kv.CAS callback key=k decision=put
			    store.swap etcd key=k outcome=applied callers=1
			B
			  kv.CAS key=k -> B/store.swap
			    kv.CAS callback key=k decision=put
			    store.swap etcd key=k outcome=applied callers=2 -> B/kv.CAS -> C/kv.CAS
			C
			  kv.CAS key=k -> B/store.swap
			    kv.CAS callback key=k decision=put
		`)
		if len(seen) != 2 || seen[0] != "A" || seen[1] != "B" {
			t.Errorf("the driver saw the baggage of %q", seen)
		}
	})
}

// A swap that is shared is recorded if the trace of anybody who shares it is.
func TestSharedSwapIsSampledForWhoIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorder := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
		tracing := kvotel.New(kvotel.WithTracerProvider(provider))
		r := newRig(t, kv.Options{}, codec.String{})
		_ = r.client.Close()
		r.line.Store = newStore()
		r.client = tracing.Wrap(kv.New(r.line, codec.String{}, &kv.Options{Observer: tracing}), "etcd")
		defer r.client.Close()
		share(t, r, func(name string, cas func(ctx context.Context)) {
			of := trace.SpanContextConfig{TraceID: trace.TraceID{name[0]}, SpanID: trace.SpanID{name[0]}, Remote: true}
			if name == "C" {
				of.TraceFlags = trace.FlagsSampled
			}
			cas(trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(of)))
		})
		for _, s := range recorder.Ended() {
			if s.SpanContext().TraceID() != (trace.TraceID{'C'}) {
				t.Errorf("%s is recorded, of a trace that is not sampled", s.Name())
			}
			if s.Name() == "store.swap" {
				return
			}
		}
		t.Error("the swap of a call that is sampled is not recorded")
	})
}

func TestCASDeclined(t *testing.T) {
	r := newRig(t, kv.Options{}, codec.String{})
	defer r.client.Close()
	r.within("A", func(ctx context.Context) {
		if err := r.client.CAS(ctx, "k", func(any) (any, bool, error) { return nil, false, nil }); err != nil {
			t.Error(err)
		}
	})
	r.documented("declined", `
		A
		  kv.CAS key=k
		    store.get etcd key=k
		    kv.CAS callback key=k decision=nothing
	`)
}

// A callback that panics leaves spans that have ended.
func TestCASPanics(t *testing.T) {
	r := newRig(t, kv.Options{}, codec.String{})
	defer r.client.Close()
	func() {
		defer func() { _ = recover() }()
		_ = r.client.CAS(t.Context(), "k", func(any) (any, bool, error) { panic("oh") })
	}()
	r.wantTraces(`
		kv.CAS key=k
		  store.get etcd key=k
		  kv.CAS callback key=k decision=panic
	`)
}

// Another writer was there first: the callback runs again, by what the store has.
func TestCASConflicts(t *testing.T) {
	r := newRig(t, kv.Options{}, codec.String{})
	defer r.client.Close()
	other, once := kv.New(r.data.Open(), codec.String{}, nil), sync.Once{}
	defer other.Close()
	r.line.onSwap = func(ctx context.Context) {
		once.Do(func() {
			if err := other.CAS(context.Background(), "k", put("theirs")); err != nil {
				t.Error(err)
			}
		})
	}
	r.within("A", func(ctx context.Context) {
		if err := r.client.CAS(ctx, "k", put("ours")); err != nil {
			t.Error(err)
		}
	})
	r.documented("conflict", `
		A
		  kv.CAS key=k
		    store.get etcd key=k
		    kv.CAS callback key=k decision=put
		    store.swap etcd key=k outcome=conflict callers=1
		    kv.CAS callback key=k decision=put
		    store.swap etcd key=k outcome=applied callers=1
	`)
}

func TestCASOfEachDecision(t *testing.T) {
	r := newRig(t, kv.Options{MaxAttempts: 1}, codec.String{})
	defer r.client.Close()
	refused := errors.New("refused")
	for _, answer := range []struct {
		out   any
		retry bool
		err   error
	}{{"v", false, nil}, {kv.Remove, false, nil}, {nil, false, refused}, {nil, true, refused}} {
		err := r.client.CAS(t.Context(), "k", func(any) (any, bool, error) { return answer.out, answer.retry, answer.err })
		if !errors.Is(err, answer.err) {
			t.Error(err)
		}
	}
	for i, want := range []string{"put", "remove", "error", "retry"} {
		if got := attributeOf(r.spans("kv.CAS callback")[i], "polykv.decision"); got != want {
			t.Errorf("decision %d is %q, not %q", i, got, want)
		}
	}
}
