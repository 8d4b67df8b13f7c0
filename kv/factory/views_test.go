package factory_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
)

// weak is a driver of others' whose clients say that they are not linearizable.
type weak struct{ kv.Forward }

func (weak) Linearizable() bool { return false }

func withWeak(t *testing.T, closed *bool) factory.Drivers {
	set := factory.Builtin()
	err := set.Add(factory.ClientDriver("weak", func() *boltConfig { return &boltConfig{Path: "/data", Wait: 1} },
		func(context.Context, *boltConfig, factory.Env) (kv.Client, error) {
			return weak{kv.Forward{Client: closing{kv.New(inmemory.NewStore().Open(), codec.String{}, nil), closed}}}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// closing notes that it was closed.
type closing struct {
	kv.Client
	closed *bool
}

func (c closing) Close() error {
	*c.closed = true
	return c.Client.Close()
}

func TestRequireRefusesWeakerStores(t *testing.T) {
	closed := false
	set := withWeak(t, &closed)
	for name, c := range map[string]struct{ text, want string }{
		"memory":      {"{backend: inmemory, require: linearizable}", ""},
		"two of them": {"{backend: multi, require: linearizable, multi: {primary: {backend: inmemory, name: a}, secondary: {backend: inmemory, name: b}}}", ""},
		"nothing":     {"{backend: weak}", ""},
		"gossip": {
			"{backend: memberlist, require: linearizable}",
			`require: the backend "memberlist" is not linearizable`,
		},
		"a side of gossip": {
			"{backend: multi, require: linearizable, multi: {primary: {backend: inmemory}, secondary: {backend: memberlist}}}",
			`require: the backend "memberlist" is not linearizable`,
		},
		"a driver of others": {"{backend: weak, require: linearizable}", `require: the backend "weak" is not linearizable`},
		"something else":     {"{backend: inmemory, require: fast}", `require: "fast" is nothing that can be required; it must be empty or "linearizable"`},
	} {
		cfg := set.NewConfig()
		if err := cfg.Load(strings.NewReader(c.text)); err != nil {
			t.Fatal(err)
		}
		client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		wantError(t, err, c.want)
		if !errors.As(err, new(*factory.FieldError)) {
			t.Errorf("%s: %T is no FieldError", name, err)
		}
	}
	if !closed {
		t.Error("a client that was refused was left open")
	}
}

// A gossip node knows the codecs of views that it was told of, and a view is
// measured, and closed, with its client.
func TestViewsOfAGossipClient(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	counts := memberlist.MapCodec[string, int]{ID: "counts"}
	client := openGossip(t, gossip(t, ""), factory.Deps{Registerer: reg, Codecs: []codec.Codec{counts}})
	view, err := kv.WithCodec(client, counts)
	if err != nil {
		t.Fatal(err)
	}
	if err := view.CAS(t.Context(), "k", func(any) (any, bool, error) {
		m := memberlist.NewMap[string, int]()
		m.Set("entry", 1)
		return m, false, nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := gauge(t, reg, "polykv_gossip_keys"); got != 1 {
		t.Errorf("polykv_gossip_keys is %v", got)
	}
	if n, ok := kv.As[memberlist.Noder](view); !ok || n.Node() == nil {
		t.Error("the node is not found in a view")
	}
	if err := view.Close(); err != nil {
		t.Error(err)
	}
	if families, err := reg.Gather(); err != nil {
		t.Error(err)
	} else {
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "polykv_gossip_") {
				t.Errorf("%s is still there", f.GetName())
			}
		}
	}
	if _, err := factory.New(t.Context(), gossip(t, ""), codec.String{}, factory.Deps{Codecs: []codec.Codec{nil}}); err == nil {
		t.Error("a nil codec was taken")
	}
}
