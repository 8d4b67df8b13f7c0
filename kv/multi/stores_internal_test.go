package multi

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// odd is a client that lacks something, or fails to say what it is.
type odd struct {
	kv.Forward
	raw, coded, guards, recoded error
}

func (o odd) Raw() (kv.Client, error) {
	if o.raw != nil {
		return nil, o.raw
	}
	return o.Forward.Raw()
}

func (o odd) Codec() (codec.Codec, error) {
	if o.coded != nil {
		return nil, o.coded
	}
	return o.Forward.Codec()
}

func (o odd) Supports(what kv.Capability) error {
	if o.guards != nil {
		return o.guards
	}
	return o.Forward.Supports(what)
}

func (o odd) WithCodec(c codec.Codec) (kv.Client, error) {
	if o.recoded != nil {
		return nil, o.recoded
	}
	return o.Forward.WithCodec(c)
}

// unversioned is a client without versions.
type unversioned struct {
	kv.Client
	kv.GuardedClient
	watcher
	viewer
}

type (
	watcher interface{ kv.Watcher }
	viewer  interface{ kv.RawViewer }
)

// What a store lacks is said when it is opened, and what of it is of use is kept.
func TestWhatAStoreMustOffer(t *testing.T) {
	inner := kv.New(inmemory.NewStore().Open(), codec.String{}, &kv.Options{Logger: slog.New(slog.DiscardHandler)})
	defer func() { _ = inner.Close() }()
	full, _ := kv.Guarded(inner)
	none, boom := kv.ErrNotSupported, errors.New("boom")
	text, other := codec.String{}, codec.JSON[string]{}
	forward := kv.Forward{Client: inner}
	for name, test := range map[string]struct {
		backend     Backend
		codec       codec.Codec
		coordinated bool
		err         error
		says        string // the error
		raw         bool
		codecs      [2]codec.Codec // as given or told, and as told
	}{
		"all":                 {backend: Backend{Client: inner}, raw: true, codecs: [2]codec.Codec{text, text}},
		"coordinated":         {backend: Backend{Client: inner}, coordinated: true, raw: true, codecs: [2]codec.Codec{text, text}},
		"another codec":       {backend: Backend{Client: inner}, codec: other, raw: true, codecs: [2]codec.Codec{other, text}},
		"no codec":            {backend: Backend{Client: odd{Forward: forward, coded: none}}, raw: true},
		"a codec is given":    {backend: Backend{Client: odd{Forward: forward, coded: none}}, codec: other, raw: true, codecs: [2]codec.Codec{other, nil}},
		"no bytes":            {backend: Backend{Client: odd{Forward: forward, raw: none}}, codec: text, codecs: [2]codec.Codec{text, text}},
		"no bytes, no codec":  {backend: Backend{Client: odd{Forward: forward, raw: none, coded: none}}, err: none, says: `a codec must be given`},
		"no watch":            {backend: Backend{Client: struct{ kv.Client }{inner}}, err: none, says: "its client has no kv.Watch"},
		"bytes fail":          {backend: Backend{Client: odd{Forward: forward, raw: boom}}, err: boom, says: `"x": boom`},
		"codec fails":         {backend: Backend{Client: odd{Forward: forward, coded: boom}}, err: boom, says: `backend "x": boom`},
		"coordinated, gossip": {backend: Backend{Client: inner, Gossip: true}, coordinated: true, err: none, says: "coordinated: "},
		"gossip":              {backend: Backend{Client: inner, Gossip: true}, raw: true, codecs: [2]codec.Codec{text, text}},
		"unguarded":           {backend: Backend{Client: odd{Forward: forward, guards: none}}, coordinated: true, err: none, says: "no guards"},
		"unguarded by hand":   {backend: Backend{Client: odd{Forward: forward, guards: none}}, raw: true, codecs: [2]codec.Codec{text, text}},
		"unversioned":         {backend: Backend{Client: unversioned{inner, full, inner.(watcher), inner.(viewer)}}, coordinated: true, err: none, says: "coordinated: "},
		"coordinated bytes":   {backend: Backend{Client: odd{Forward: forward, raw: none}}, codec: text, coordinated: true, err: none, says: "coordinated: "},
	} {
		test.backend.Name = "x"
		s, err := newStore(test.backend, test.codec, test.coordinated)
		if (s == nil) != (err != nil) || !errors.Is(err, test.err) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v, %s", name, err, test.err, test.says)
		}
		if s != nil && ((s.raw != nil) != test.raw || s.codec != test.codecs[0] || s.coded != test.codecs[1] || s.gossip != test.backend.Gossip || s.name != "x" || s.side == nil) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// recorder is a tracer that keeps what it is told.
type recorder struct {
	mu    sync.Mutex
	begun []kv.Work
	ended []error
}

type callerKey struct{}

func (r *recorder) Start(ctx context.Context, w kv.Work) (context.Context, func(error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = append(r.begun, w)
	return ctx, func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = append(r.ended, err)
	}
}

// A tracer is told of every attempt, and for which writes it is made: the first
// eight, those that an attempt failed for among the next ones.
func TestTracerOfMirrors(t *testing.T) {
	stores := [2]*inmemory.Store{inmemory.NewStore(), inmemory.NewStore()}
	o := &kv.Options{Logger: slog.New(slog.DiscardHandler)}
	inside, goOn := make(chan struct{}), make(chan error)
	traced := &recorder{}
	cfg := DefaultConfig()
	cfg.MirrorAsync, cfg.RepairInterval, cfg.MirrorMinBackoff = true, 0, 1
	client, err := New(cfg, []Backend{
		{Name: "first", Client: kv.New(stores[0].Open(), codec.String{}, o)},
		{Name: "second", Client: kv.New(heldUp{stores[1].Open(), func(driver.Swap) error {
			inside <- struct{}{}
			return <-goOn
		}}, codec.String{}, o)},
	}, WithLogger(slog.New(slog.DiscardHandler)), WithTracer(traced))
	if err != nil {
		t.Fatal(err)
	}
	written := 0
	write := func(n int) {
		for range n {
			ctx := context.WithValue(t.Context(), callerKey{}, written)
			written++
			if err := client.CAS(ctx, "k", func(any) (any, bool, error) { return strings.Repeat("v", written), false, nil }); err != nil {
				t.Error(err)
			}
		}
	}
	write(1)
	<-inside
	write(2) // for the next attempt
	goOn <- driver.Permanent(kv.ErrTooLarge)
	<-inside
	write(7)
	goOn <- nil // what it wrote is no more what the primary holds
	<-inside
	goOn <- nil
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if len(traced.ended) != 3 || !errors.Is(traced.ended[0], kv.ErrTooLarge) || traced.ended[1] != nil || traced.ended[2] != nil {
		t.Errorf("they ended with %v", traced.ended)
	}
	for i, want := range [][]int{{0}, {0, 1, 2}, {3, 4, 5, 6, 7}} {
		w := traced.begun[i]
		var callers []int
		for _, ctx := range w.Callers {
			n, _ := ctx.Value(callerKey{}).(int)
			callers = append(callers, n)
		}
		if w.Op != "mirror" || w.Backend != "second" || w.Range != kv.KeyRange("k") || !slices.Equal(callers, want) {
			t.Errorf("attempt %d: %+v for %v, want %v", i, w, callers, want)
		}
	}
}
