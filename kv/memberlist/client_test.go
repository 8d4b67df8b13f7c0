package memberlist

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// Ping tells how the node is; reads and writes go on without others.
func TestPingTellsHealth(t *testing.T) {
	l := newLoopback(t, nil)
	isolated := errors.New("this node is alone")
	var health error
	l.clients.health = func() error { return health }
	c, err := l.clients.new(codec.String{}, kv.Options{})
	must(t, err)
	defer l.clients.close()
	raw, err := kv.Raw(c)
	must(t, err)
	prefixed, err := kv.Prefix(c, "ns/")
	must(t, err)
	all := map[string]kv.Client{"the client": c, "its raw view": raw, "a prefix": prefixed}
	for name, c := range all {
		if err := kv.Ping(t.Context(), c); err != nil {
			t.Errorf("%s of a healthy node: %v", name, err)
		}
	}
	health = isolated
	for name, c := range all {
		if err := kv.Ping(t.Context(), c); !errors.Is(err, isolated) || !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("%s of an isolated node: %v", name, err)
		}
	}
	must(t, put(t.Context(), c, "k", "v"))
	if v, err := c.Get(t.Context(), "k"); v != "v" || err != nil {
		t.Errorf("Get on an isolated node: %v, %v", v, err)
	}
}

// The end of a node is the end of its clients; none can be opened afterwards
// that works.
func TestClientsEndWithNode(t *testing.T) {
	l := newLoopback(t, nil)
	closed, err := l.clients.new(codec.String{}, kv.Options{})
	must(t, err)
	must(t, closed.Close())
	open, err := l.clients.new(codec.String{}, kv.Options{})
	must(t, err)
	if n := len(l.clients.open); n != 1 {
		t.Errorf("the node knows %d clients, 1 is open", n)
	}
	l.clients.close()
	late, err := l.clients.new(codec.String{}, kv.Options{})
	must(t, err)
	for name, c := range map[string]kv.Client{"closed": closed, "open": open, "late": late} {
		if err := put(t.Context(), c, "k", "v"); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("a write by the client that was %s: %v, want ErrClosed", name, err)
		}
		if err := kv.Ping(t.Context(), c); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("Ping by the client that was %s: %v, want ErrClosed", name, err)
		}
	}
	if n := len(l.clients.open); n != 0 {
		t.Errorf("the node still knows %d clients", n)
	}
}

func TestClientRefuses(t *testing.T) {
	l := newLoopback(t, nil)
	if _, err := l.clients.new(codec.JSON[int]{ID: "unknown"}, kv.Options{}); err == nil || !strings.Contains(err.Error(), `"unknown"`) {
		t.Errorf("a codec that is not registered: %v", err)
	}
	if _, err := l.clients.new(codec.String{}, kv.Options{MinBackoff: -time.Second}); err == nil {
		t.Error("options that mean nothing were taken")
	}
}

// The lower of the limits of the node and of the client counts.
func TestClientLimit(t *testing.T) {
	l := newLoopback(t, nil)
	l.clients.maxValue = 10
	c, err := l.clients.new(codec.String{}, kv.Options{MaxValueSize: 8})
	must(t, err)
	defer l.clients.close()
	if err := put(t.Context(), c, "k", "123456789"); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("a value over the client's limit: %v", err)
	}
	must(t, put(t.Context(), c, "k", "12345678"))
	if limits, err := kv.LimitsOf(c); err != nil || limits.Value != 8 || limits.Key != kv.MaxKeyLen {
		t.Errorf("the limits are %+v, %v", limits, err)
	}
}

// A view of another codec of the node works like a client of it; one that the
// node doesn't know is refused by name, through wrappers too.
func TestViewsOfCodecs(t *testing.T) {
	l := newLoopback(t, nil)
	c, err := l.clients.new(codec.String{}, kv.Options{})
	must(t, err)
	defer l.clients.close()
	prefixed, err := kv.Prefix(c, "ns/")
	must(t, err)
	if _, err := kv.WithCodec(prefixed, codec.JSON[int]{ID: "stranger"}); err == nil || !strings.Contains(err.Error(), `"stranger"`) {
		t.Errorf("a codec that the node doesn't know: %v", err)
	}
	view, err := kv.WithCodec(prefixed, codec.Bytes{})
	must(t, err)
	must(t, view.CAS(t.Context(), "k", func(any) (any, bool, error) { return []byte("v"), false, nil }))
	if v, err := c.Get(t.Context(), "ns/k"); v != "v" || err != nil {
		t.Errorf("Get of what a view wrote: %v, %v", v, err)
	}
	down := errors.New("alone")
	l.clients.health = func() error { return down }
	late, err := l.clients.new(codec.String{}, kv.Options{})
	must(t, err)
	lateView, err := kv.WithCodec(late, codec.Bytes{})
	must(t, err)
	if err := kv.Ping(t.Context(), lateView); !errors.Is(err, down) {
		t.Errorf("Ping of a view of an isolated node: %v", err)
	}
	for name, c := range map[string]kv.Client{"a client": c, "its view": view, "a prefix": prefixed} {
		if kv.Linearizable(c) {
			t.Errorf("%s says that it is linearizable", name)
		}
	}
}
