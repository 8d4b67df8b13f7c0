package hostkv

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rules are those that hold. Without versions the others can't: C1, C6 and C7
// where a value changed and changed back, C3, C7 and D1 for removals, between whose
// look and deletion another write may come. Deletions are told late, which is too late for W2.
var rules = []string{
	"K1", "K2", "K3", "A1", "G1", "G2", "L1", "C2", "C4", "C5", "C8",
	"W1", "W3", "W4", "W5", "W6", "W7", "W8", "X1", "X2", "Entries", "Ping", "Limits",
}

// TestUseConforms runs the suite on a host's client that itself is right: one
// of polykv's, as a host would see it.
func TestUseConforms(t *testing.T) {
	h := conformance.Harness{New: func(t conformance.T) conformance.Store {
		memory := inmemory.NewStore()
		plain := kv.New(memory.Open(), codec.Bytes{}, nil)
		t.Cleanup(func() { _ = plain.Close() })
		host, err := kv.Raw(plain)
		if err != nil {
			t.Fatalf("%v", err)
		}
		return conformance.Store{Open: func(c codec.Codec, o kv.Options) (kv.Client, error) {
			store := newStore(kv.SkipDeletes(host), codec.Bytes{}, Options{RescanInterval: 20 * time.Millisecond})
			return newUsed(kv.New(store, c, &o)), nil
		}}
	}}
	h.Features = conformance.Features{Lacks: []conformance.Extra{conformance.Guarded, conformance.Versioned}}
	h.Rules = rules
	h.Scale = 0.2
	conformance.Run(t, h)
}

// failing is a host's client whose writes end as a test says.
type failing struct {
	Client
	before error // without a word to the callback
	after  error // once the callback has decided
}

func (f failing) CAS(ctx context.Context, key string, decide func(any) (any, bool, error)) error {
	if f.before != nil {
		return f.before
	}
	if _, _, err := decide(nil); err != nil {
		return err
	}
	return f.after
}

func (f failing) Get(context.Context, string) (any, error) { return nil, nil }

func TestHowAWriteEnded(t *testing.T) {
	broken, stale := errors.New("broken pipe"), errors.New("no change detected")
	for name, c := range map[string]struct {
		host  failing
		local bool
		want  driver.Outcome
		err   error
	}{
		"written":                 {host: failing{}, want: driver.Applied},
		"never asked":             {host: failing{before: broken}, want: driver.NotApplied, err: broken},
		"answer lost":             {host: failing{after: broken}, want: driver.Unknown, err: broken},
		"answer lost, in memory":  {host: failing{after: broken}, local: true, want: driver.NotApplied, err: broken},
		"not taken by the merger": {host: failing{after: stale}, want: driver.NotApplied, err: ErrUnchanged},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(c.host, codec.String{}, Options{Local: c.local})
			defer s.Close()
			got, err := s.Swap(t.Context(), driver.Swap{Key: "a", Value: []byte("x")})
			if got.Outcome != c.want || !errors.Is(err, c.err) {
				t.Errorf("%v, %v", got.Outcome, err)
			}
		})
	}
}

// stuck is a host's client that heeds no ctx until it is let go.
type stuck struct {
	Client
	letGo chan struct{}
	wrote chan any
}

func (s stuck) CAS(_ context.Context, _ string, decide func(any) (any, bool, error)) error {
	<-s.letGo
	out, _, err := decide(nil)
	s.wrote <- out
	return err
}

// TestNothingIsWrittenAfterASwapReturned: a host may come to the callback late.
func TestNothingIsWrittenAfterASwapReturned(t *testing.T) {
	host := stuck{letGo: make(chan struct{}), wrote: make(chan any, 1)}
	s := newStore(host, codec.String{}, Options{})
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := s.Swap(ctx, driver.Swap{Key: "a", Value: []byte("x")})
	if got.Outcome != driver.NotApplied || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", got.Outcome, err)
	}
	close(host.letGo)
	if out := <-host.wrote; out != nil {
		t.Errorf("%v was written after the Swap had returned", out)
	}
}

// No view of a host's client shows versions, which are hashes.
func TestViewsHaveNoVersions(t *testing.T) {
	plain := kv.New(inmemory.NewStore().Open(), codec.Bytes{}, nil)
	defer plain.Close()
	host, err := kv.Raw(plain)
	if err != nil {
		t.Fatal(err)
	}
	c := Use(host, codec.Bytes{}, Options{})
	defer c.Close()
	for name, view := range map[string]func() (kv.Client, error){
		"none":  func() (kv.Client, error) { return c, nil },
		"raw":   func() (kv.Client, error) { return kv.Raw(c) },
		"codec": func() (kv.Client, error) { return kv.WithCodec(c, codec.String{}) },
	} {
		v, err := view()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Versioned(v); !errors.Is(err, kv.ErrNotSupported) {
			t.Errorf("the view %q has versions: %v", name, err)
		}
	}
}
