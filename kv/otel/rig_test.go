package kvotel_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	kvotel "github.com/polykv/polykv/kv/otel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is a real store in memory with a line before it: it is not
// driver.NonBlocking, and what is done to it may be held up or fail.
type line struct {
	driver.Store
	onGet   func(ctx context.Context) error
	onSwap  func(ctx context.Context)
	onWatch func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error
}

func (l *line) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if l.onGet != nil {
		if err := l.onGet(ctx); err != nil {
			return driver.Entry{}, err
		}
	}
	return l.Store.Get(ctx, req)
}

func (l *line) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if l.onSwap != nil {
		l.onSwap(ctx)
	}
	return l.Store.Swap(ctx, s)
}

func (l *line) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if l.onWatch != nil {
		return l.onWatch(ctx, req, emit)
	}
	return l.Store.Watch(ctx, req, emit)
}

// rig is a client that is traced, and what was recorded.
type rig struct {
	t        *testing.T
	data     *inmemory.Store
	line     *line
	client   kv.Client
	tracing  *kvotel.Tracing
	app      trace.Tracer // the program's own
	recorder *tracetest.SpanRecorder
}

func newRig(t *testing.T, opts kv.Options, cdc codec.Codec) *rig {
	r := &rig{t: t, recorder: tracetest.NewSpanRecorder(), data: inmemory.NewStore()}
	r.line = &line{Store: r.data.Open()}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.recorder))
	r.app = provider.Tracer("app")
	r.tracing = kvotel.New(kvotel.WithTracerProvider(provider))
	opts.Backend, opts.Observer, opts.Logger = "etcd", r.tracing, slog.New(slog.DiscardHandler)
	r.client = r.tracing.Wrap(kv.New(r.line, cdc, &opts), "etcd")
	return r
}

// within makes a span of the program around f.
func (r *rig) within(name string, f func(ctx context.Context)) {
	ctx, span := r.app.Start(r.t.Context(), name)
	defer span.End()
	f(ctx)
}

func put(value string) func(any) (any, bool, error) {
	return func(any) (any, bool, error) { return value, false, nil }
}

// spans are those that have ended and that match, in the order of their starts.
func (r *rig) spans(name string) (matching []sdktrace.ReadOnlySpan) {
	for _, s := range r.recorder.Ended() {
		if s.Name() == name {
			matching = append(matching, s)
		}
	}
	slices.SortStableFunc(matching, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return matching
}

// traces draws what has ended, as docs/operations.md has it: each span below its
// parent, in the order of their starts.
func (r *rig) traces() string {
	order := map[trace.SpanID]int{}
	for i, s := range r.recorder.Started() {
		order[s.SpanContext().SpanID()] = i
	}
	known := map[trace.SpanID]sdktrace.ReadOnlySpan{}
	below := map[trace.SpanID][]sdktrace.ReadOnlySpan{}
	for _, s := range r.recorder.Ended() {
		known[s.SpanContext().SpanID()] = s
		below[s.Parent().SpanID()] = append(below[s.Parent().SpanID()], s)
	}
	var b strings.Builder
	var draw func(at trace.SpanID, indent string)
	draw = func(at trace.SpanID, indent string) {
		slices.SortFunc(below[at], func(a, b sdktrace.ReadOnlySpan) int {
			return cmp.Compare(order[a.SpanContext().SpanID()], order[b.SpanContext().SpanID()])
		})
		for _, s := range below[at] {
			b.WriteString(indent + s.Name())
			if strings.HasPrefix(s.Name(), "store.") {
				b.WriteString(" " + attributeOf(s, "db.system.name"))
			}
			for _, a := range s.Attributes() {
				if name, ours := strings.CutPrefix(string(a.Key), "polykv."); ours {
					fmt.Fprintf(&b, " %s=%v", name, a.Value.AsInterface())
				}
			}
			for _, e := range s.Events() {
				fmt.Fprintf(&b, " %s", e.Name)
			}
			if s.Status().Code == codes.Error {
				fmt.Fprintf(&b, " error=%s", attributeOf(s, "error.type"))
			}
			for _, l := range s.Links() {
				fmt.Fprintf(&b, " -> %s", place(known, l.SpanContext.SpanID()))
			}
			b.WriteString("\n")
			draw(s.SpanContext().SpanID(), indent+"  ")
		}
	}
	draw(trace.SpanID{}, "")
	return b.String()
}

// place names a span by its root and itself.
func place(known map[trace.SpanID]sdktrace.ReadOnlySpan, id trace.SpanID) string {
	s := known[id]
	if s == nil {
		return "unknown"
	}
	root := s
	for known[root.Parent().SpanID()] != nil {
		root = known[root.Parent().SpanID()]
	}
	if root == s {
		return s.Name()
	}
	return root.Name() + "/" + s.Name()
}

func attributeOf(s sdktrace.ReadOnlySpan, key attribute.Key) string {
	for _, a := range s.Attributes() {
		if a.Key == key {
			return fmt.Sprint(a.Value.AsInterface())
		}
	}
	return ""
}

// wantTraces compares, and shows both.
func (r *rig) wantTraces(want string) {
	r.t.Helper()
	want = strings.TrimPrefix(strings.ReplaceAll(want, "\t", ""), "\n")
	if got := r.traces(); got != want {
		r.t.Errorf("the traces are\n%s\nand not\n%s", got, want)
	}
}
