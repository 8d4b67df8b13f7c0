package kv_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// pair is a client over several, as package multi has it.
type pair struct {
	kv.Client
	inside []kv.Client
}

func (p pair) Unwrap() []kv.Client { return p.inside }

// capable offers what this package knows nothing of.
type capable struct {
	kv.Forward
	name string
}

func (c capable) Name() string { return c.name }

type namer interface{ Name() string }

func TestAsFindsWhatIsInside(t *testing.T) {
	wrapped := func(c kv.Client) kv.Client {
		prefixed, err := kv.Prefix(kv.SkipDeletes(c), "ns/")
		if err != nil {
			t.Fatal(err)
		}
		return prefixed
	}
	first := capable{kv.Forward{Client: newFake()}, "first"}
	second := capable{kv.Forward{Client: newFake()}, "second"}
	for name, c := range map[string]struct {
		client kv.Client
		want   string
	}{
		"itself":                 {first, "first"},
		"inside wrappers":        {wrapped(first), "first"},
		"the outermost of two":   {capable{kv.Forward{Client: wrapped(first)}, "outer"}, "outer"},
		"one of several stores":  {wrapped(pair{newFake(), []kv.Client{plain{newFake()}, wrapped(second)}}), "second"},
		"the first of several":   {pair{newFake(), []kv.Client{wrapped(first), second}}, "first"},
		"nowhere":                {wrapped(newFake()), ""},
		"nowhere among several":  {pair{newFake(), []kv.Client{newFake(), wrapped(newFake())}}, ""},
		"nowhere without extras": {plain{newFake()}, ""},
		"in no client":           {nil, ""},
	} {
		found, ok := kv.As[namer](c.client)
		if ok != (c.want != "") || ok && found.Name() != c.want {
			t.Errorf("%s: found %v, %v; want %q", name, found, ok, c.want)
		}
	}
	if f, ok := kv.As[*fake](wrapped(first)); !ok || f != first.Client {
		t.Errorf("by a concrete type: %v, %v", f, ok)
	}
	// What changes keys must not be bypassed by who asks for an optional
	// interface.
	outermost := wrapped(first)
	if v, ok := kv.As[kv.VersionedClient](outermost); !ok || v != outermost.(kv.VersionedClient) {
		t.Errorf("an optional interface was found in %T", v)
	}
}

func TestWithCodecRefuses(t *testing.T) {
	if _, err := kv.WithCodec(plain{newFake()}, codec.String{}); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a client without views: %v", err)
	}
	if _, err := kv.WithCodec(kv.SkipDeletes(plain{newFake()}), codec.String{}); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a wrapper of a client without views: %v", err)
	}
	if _, err := kv.WithCodec(newFake(), nil); err == nil || !strings.Contains(err.Error(), "codec") {
		t.Errorf("no codec: %v", err)
	}
}

// A view hides deletions if its client does.
func TestViewsKeepTheirWrappers(t *testing.T) {
	c := onMemory(t, codec.String{}, nil)
	view, err := kv.WithCodec(kv.SkipDeletes(c), codec.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"a", "b"} {
		if err := c.CAS(t.Context(), "k", set(value)); err != nil {
			t.Fatal(err)
		}
		view.WatchKey(t.Context(), "k", func(in any) bool {
			got, ok := in.([]byte)
			switch {
			case !ok:
				t.Errorf("the watch was called with %v", in)
				return false
			case string(got) == "end":
				return false
			}
			if err := errors.Join(c.Delete(t.Context(), "k"), c.CAS(t.Context(), "k", set("end"))); err != nil {
				t.Error(err)
			}
			return true
		})
	}
}
