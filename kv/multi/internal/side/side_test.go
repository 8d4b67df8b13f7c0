package side

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

// plain is a client without any extras, as somebody else may write one.
type plain struct{ kv.Client }

func TestNewSaysWhatItNeeds(t *testing.T) {
	c := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer c.Close()
	for _, bad := range []struct {
		name   string
		client kv.Client
		say    string
	}{{"", c, "name"}, {"a", nil, `"a"`}, {"a", plain{c}, "codec"}} {
		if _, err := New(bad.name, bad.client, nil); err == nil || !strings.Contains(err.Error(), bad.say) {
			t.Errorf("New(%q) = %v, which should speak of %s", bad.name, err, bad.say)
		}
	}
}

func TestSideOfAPlainClientGoesThroughItsCodec(t *testing.T) {
	c := kv.New(inmemory.NewStore().Open(), codec.JSON[int]{}, nil)
	defer c.Close()
	s, err := New("a", plain{c}, codec.JSON[int]{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CAS(t.Context(), "k", nil, func(_ []byte, exists bool) ([]byte, kv.Action, error) {
		return []byte("42"), kv.Put, nil
	}); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(t.Context(), "k"); v != 42 || err != nil {
		t.Errorf("Get = %v, %v", v, err)
	}
	if v, exists, err := s.Get(t.Context(), "k", nil); string(v) != "42" || !exists || err != nil {
		t.Errorf("Get = %q, %v, %v", v, exists, err)
	}
	for e, err := range s.Entries(t.Context(), "") {
		if e.Key != "k" || string(e.Value) != "42" || err != nil {
			t.Errorf("Entries yields %q=%q, %v", e.Key, e.Value, err)
		}
	}
	if has, err := s.HasGuards(t.Context()); has || err != nil {
		t.Errorf("HasGuards = %v, %v", has, err)
	}
	_, _, err = s.ReadRecord(t.Context())
	wantErr(t, err, kv.ErrNotSupported)
	_, _, err = s.SwapRecord(t.Context(), 0, record(Primary))
	wantErr(t, err, kv.ErrNotSupported)
	_, _, err = s.Get(t.Context(), "k", Guards(1))
	wantErr(t, err, kv.ErrNotSupported)
	wantErr(t, s.Delete(t.Context(), "k", Guards(1)), kv.ErrNotSupported)
	if err := s.Delete(t.Context(), "k", nil); err != nil {
		t.Error(err)
	}
	if n, err := s.Count(t.Context(), ""); n != 0 || err != nil {
		t.Errorf("Count = %d, %v", n, err)
	}
}

// unguarded is a client whose store has no guards.
type unguarded struct{ kv.Forward }

func (u unguarded) Raw() (kv.Client, error) {
	raw, err := u.Forward.Raw()
	return unguarded{kv.Forward{Client: raw}}, err
}

func (u unguarded) GetGuarded(ctx context.Context, key string, guards ...kv.Guard) (any, error) {
	if len(guards) > 0 {
		return nil, kv.ErrNotSupported
	}
	return u.Forward.GetGuarded(ctx, key)
}

// deaf is a client whose store ignores guards, which is worse than having none.
type deaf struct{ kv.Forward }

func (d deaf) Raw() (kv.Client, error) {
	raw, err := d.Forward.Raw()
	return deaf{kv.Forward{Client: raw}}, err
}

func (d deaf) GetGuarded(ctx context.Context, key string, _ ...kv.Guard) (any, error) {
	return d.Forward.GetGuarded(ctx, key)
}

func TestHasGuardsAsksTheStore(t *testing.T) {
	s := newStore(t, "a")
	for name, c := range map[string]struct {
		client kv.Client
		want   bool
	}{
		"guards":  {s.other, true},
		"none":    {unguarded{kv.Forward{Client: s.other}}, false},
		"ignored": {deaf{kv.Forward{Client: s.other}}, false},
	} {
		side, err := New("a", c.client, nil)
		if err != nil {
			t.Fatal(err)
		}
		if has, err := side.HasGuards(t.Context()); has != c.want || err != nil {
			t.Errorf("%s: HasGuards = %v, %v", name, has, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.HasGuards(ctx)
	wantErr(t, err, context.Canceled)
}

func TestGuardedOperations(t *testing.T) {
	s := newStore(t, "a")
	s.put(t, "k", "v")
	guard := Guards(s.setRecord(t, Standby))
	set := func(value string) error {
		return s.CAS(t.Context(), "k", guard, func([]byte, bool) ([]byte, kv.Action, error) { return []byte(value), kv.Put, nil })
	}
	if err := set("w"); err != nil {
		t.Fatal(err)
	}
	if v, exists, err := s.Get(t.Context(), "k", guard); string(v) != "w" || !exists || err != nil {
		t.Fatalf("Get = %q, %v, %v", v, exists, err)
	}
	s.setRecord(t, Standby)
	wantErr(t, set("x"), kv.ErrFenced)
	wantErr(t, s.Delete(t.Context(), "k", guard), kv.ErrFenced)
	_, _, err := s.Get(t.Context(), "k", guard)
	wantErr(t, err, kv.ErrFenced)
	s.want(t, "k", "w")
	guard = Guards(s.setRecord(t, Standby))
	if err := s.Delete(t.Context(), "k", guard); err != nil {
		t.Fatal(err)
	}
	s.want(t, "k", nil)
	boom := errors.New("boom")
	wantErr(t, s.CAS(t.Context(), "k", nil, func([]byte, bool) ([]byte, kv.Action, error) { return []byte("y"), kv.Put, boom }), boom)
	s.want(t, "k", nil)
}

func TestSideHidesWhatIsReserved(t *testing.T) {
	s := newStore(t, "a")
	s.setRecord(t, Primary)
	s.put(t, "k", "v")
	beat := Heartbeat{Instance: NewID(), Host: "here", PID: 7, Started: time.Unix(1700000000, 0).UTC(), Beat: 3, Mode: "coordinated", Primary: "a", Backlog: 2}
	if err := s.WriteHeartbeat(t.Context(), beat); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Count(t.Context(), ""); n != 1 || err != nil {
		t.Errorf("Count = %d, %v", n, err)
	}
	for e, err := range s.Entries(t.Context(), "") {
		if e.Key != "k" || err != nil {
			t.Errorf("Entries yields %q, %v", e.Key, err)
		}
	}
	if err := s.CAS(t.Context(), ClientsPrefix+"odd", nil, func([]byte, bool) ([]byte, kv.Action, error) { return []byte("?"), kv.Put, nil }); err != nil {
		t.Fatal(err)
	}
	all, err := s.Heartbeats(t.Context())
	if err != nil || len(all) != 2 || all[0].String() != "odd" || !reflect.DeepEqual(all[1], beat) || all[1].String() != "here (pid 7)" {
		t.Errorf("Heartbeats = %+v, %v", all, err)
	}
	if err := s.RemoveHeartbeat(t.Context(), beat.Instance); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Heartbeats(t.Context()); len(all) != 1 || err != nil {
		t.Errorf("Heartbeats = %+v, %v", all, err)
	}
	if s.Limits().Value == 0 || s.Ping(t.Context()) != nil {
		t.Error("no limits or no answer")
	}
}
