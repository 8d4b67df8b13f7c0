package coordination_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/inmemory"
)

// beating is a client whose store has no leases, so that members beat.
type beating struct{ kv.Forward }

func (c beating) Supports(what kv.Capability) error {
	if what == kv.Leases {
		return kv.ErrNotSupported
	}
	return c.Forward.Supports(what)
}

// bothWays runs a test with leases and with beats.
func bothWays(t *testing.T, test func(t *testing.T, way func(kv.Client) kv.Client)) {
	for name, way := range map[string]func(kv.Client) kv.Client{
		"leases": func(c kv.Client) kv.Client { return c },
		"beats":  func(c kv.Client) kv.Client { return beating{kv.Forward{Client: c}} },
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, way) }) })
	}
}

func newPresence(t *testing.T, c kv.Client, observe func(coordination.Event)) *coordination.Presence {
	t.Helper()
	p, err := coordination.NewPresence(c, "ring", coordination.Options{TTL: ttl, Logger: quiet, Observer: observe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func join(t *testing.T, p *coordination.Presence, id, data string) *coordination.Membership {
	t.Helper()
	m, err := p.Join(t.Context(), id, data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func text(members []coordination.Member) string {
	var all []string
	for _, m := range members {
		all = append(all, m.ID+"="+m.Data)
	}
	return strings.Join(all, " ")
}

func wantMembers(t *testing.T, p *coordination.Presence, want string) {
	t.Helper()
	members, err := p.Members(t.Context())
	if got := text(members); err != nil || got != want {
		t.Errorf("the members are %q, %v; want %q", got, err, want)
	}
}

// seenBy collects what an observer tells, until the test ends.
func seenBy(t *testing.T, p *coordination.Presence) (told func() []string) {
	var mu sync.Mutex
	var seen []string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for members, err := range p.Watch(context.Background()) {
			if err != nil {
				return
			}
			mu.Lock()
			seen = append(seen, text(members))
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = p.Close()
		<-ended
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

func TestPresence(t *testing.T) {
	bothWays(t, func(t *testing.T, way func(kv.Client) kv.Client) {
		s := inmemory.NewStore()
		told := seenBy(t, newPresence(t, way(open(t, s.Open())), nil))
		synctest.Wait()
		a := join(t, newPresence(t, way(open(t, s.Open())), nil), "a", "10.0.0.1")
		synctest.Wait()
		second := newPresence(t, way(open(t, s.Open())), nil)
		b := join(t, second, "b", "10.0.0.2")
		synctest.Wait()
		time.Sleep(10 * ttl) // all of them live
		if err := a.Update(t.Context(), "10.0.0.9"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantMembers(t, second, "a=10.0.0.9 b=10.0.0.2")
		if err := errors.Join(a.Leave(t.Context()), a.Leave(t.Context())); err != nil {
			t.Error(err)
		}
		if !errors.Is(a.Err(), coordination.ErrReleased) || b.Err() != nil {
			t.Errorf("a: %v, b: %v", a.Err(), b.Err())
		}
		if err := a.Update(t.Context(), "late"); !errors.Is(err, coordination.ErrReleased) {
			t.Errorf("Update of one that left: %v", err)
		}
		synctest.Wait()
		if err := second.Close(); err != nil {
			t.Error(err)
		}
		<-b.Done()
		if _, err := second.Join(t.Context(), "b", ""); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("Join after Close: %v", err)
		}
		synctest.Wait()
		want := []string{"", "a=10.0.0.1", "a=10.0.0.1 b=10.0.0.2", "a=10.0.0.9 b=10.0.0.2", "b=10.0.0.2", ""}
		if got := told(); !slices.Equal(got, want) {
			t.Errorf("an observer was told %q", got)
		}
		if keys, err := open(t, s.Open()).List(t.Context(), ""); err != nil || len(keys) > 0 {
			t.Errorf("the store holds %v, %v", keys, err)
		}
	})
}

// A member that is dead, or cut off, is gone after a TTL and two beats at most, and
// one that was cut off joins again by itself.
func TestMemberThatIsCutOff(t *testing.T) {
	bothWays(t, func(t *testing.T, way func(kv.Client) kv.Client) {
		s := inmemory.NewStore()
		var gone []string
		observer := newPresence(t, way(open(t, s.Open())), func(e coordination.Event) {
			if e.Type == coordination.Gone {
				gone = append(gone, e.ID)
			}
		})
		c, line := hung(t, s)
		m := join(t, newPresence(t, way(c), nil), "a", "x")
		join(t, newPresence(t, way(open(t, s.Open())), nil), "b", "y")
		told := seenBy(t, observer)
		synctest.Wait()
		began := time.Now()
		line.Hang()
		for len(told()) < 2 {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took < ttl*2/3 || took > 2*ttl {
			t.Errorf("it was gone after %v", took)
		}
		synctest.Wait()
		if keys, err := open(t, s.Open()).List(t.Context(), "ring/"); err != nil || strings.Contains(strings.Join(keys, " "), "/a") {
			t.Errorf("the store holds %v, %v", keys, err)
		}
		line.Mend()
		time.Sleep(2 * ttl)
		if got, want := told(), []string{"a=x b=y", "b=y", "a=x b=y"}; !slices.Equal(got, want) || m.Err() != nil {
			t.Errorf("an observer was told %q, the member %v", got, m.Err())
		}
		if _, err := kv.Leased(way(c)); err != nil && !slices.Equal(gone, []string{"a"}) {
			t.Errorf("taken for dead: %v", gone)
		}
	})
}

// An observer that is cut off takes nobody for dead, and neither does any if the
// store was away for all.
func TestObserverThatIsCutOffDeclaresNobodyDead(t *testing.T) {
	for name, breaks := range map[string]func(*conformance.StoreLine){"hanging": (*conformance.StoreLine).Hang, "cut": (*conformance.StoreLine).Cut} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, all: %v", name, all), func(t *testing.T) {
				bothWays(t, func(t *testing.T, way func(kv.Client) kv.Client) {
					if _, err := kv.Leased(way(open(t, inmemory.NewStore().Open()))); err == nil && all {
						return // the store itself ends leases that nobody renews
					}
					s := inmemory.NewStore()
					observing, line := hung(t, s)
					told := seenBy(t, newPresence(t, way(observing), nil))
					lines := []*conformance.StoreLine{line}
					for i := range 3 {
						c, own := hung(t, s)
						join(t, newPresence(t, way(c), nil), fmt.Sprint(i), "")
						if all {
							lines = append(lines, own)
						}
					}
					time.Sleep(ttl)
					before := told()
					for _, away := range []time.Duration{ttl / 2, ttl, ttl + ttl/10, ttl * 3 / 2, 7 * ttl} {
						for _, l := range lines {
							breaks(l)
						}
						time.Sleep(away)
						for i, l := range lines {
							l.Mend()
							if i == 0 && name == "cut" {
								time.Sleep(ttl / 2) // members come back later
							}
						}
						time.Sleep(3 * ttl)
					}
					if got := told(); got[len(got)-1] != "0= 1= 2=" || !slices.Equal(got, before) {
						t.Errorf("the observer was told %q, then %q", before, got[len(before):])
					}
				})
			})
		}
	}
}

// Who joins last with an id is the one, and the one before is told.
func TestMemberIsReplaced(t *testing.T) {
	bothWays(t, func(t *testing.T, way func(kv.Client) kv.Client) {
		s := inmemory.NewStore()
		p := newPresence(t, way(open(t, s.Open())), nil)
		first := join(t, p, "a", "first")
		told := seenBy(t, newPresence(t, way(open(t, s.Open())), nil))
		synctest.Wait()
		second := join(t, newPresence(t, way(open(t, s.Open())), nil), "a", "second")
		<-first.Done()
		if !errors.Is(first.Err(), coordination.ErrReplaced) {
			t.Errorf("the first one: %v", first.Err())
		}
		if err := first.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(3 * ttl)
		if got := told(); !slices.Equal(got, []string{"a=first", "a=second"}) || second.Err() != nil {
			t.Errorf("an observer was told %q", got)
		}
	})
}

// A member whose record somebody deletes writes it again.
func TestMemberIsDeletedByHand(t *testing.T) {
	bothWays(t, func(t *testing.T, way func(kv.Client) kv.Client) {
		s := inmemory.NewStore()
		p := newPresence(t, way(open(t, s.Open())), nil)
		join(t, p, "a", "x")
		told := seenBy(t, p)
		synctest.Wait()
		if err := open(t, s.Open()).Delete(t.Context(), "ring/members/a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := told(); got[len(got)-1] != "a=x" {
			t.Errorf("the observer was told %q", got)
		}
	})
}

func TestPresenceRefuses(t *testing.T) {
	c := open(t, inmemory.NewStore().Open())
	for _, id := range []string{"", "a/b", "..", "a\n"} {
		if _, err := newPresence(t, c, nil).Join(t.Context(), id, ""); !errors.Is(err, kv.ErrInvalidKey) {
			t.Errorf("the id %q: %v", id, err)
		}
	}
	for _, data := range []string{"\xff", "a\xc3"} {
		if _, err := newPresence(t, c, nil).Join(t.Context(), "a", data); err == nil {
			t.Errorf("Join took the data %q, which no observer would see", data)
		}
		if err := join(t, newPresence(t, c, nil), "b", "").Update(t.Context(), data); err == nil {
			t.Errorf("Update took the data %q, which no observer would see", data)
		}
		e, err := coordination.NewElection(c, "leader", coordination.Options{Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Campaign(t.Context(), data); err == nil {
			t.Errorf("Campaign took the value %q, which no observer would see", data)
		}
		_ = e.Close()
	}
	if _, err := coordination.NewPresence(c, "/ring", coordination.Options{}); !errors.Is(err, kv.ErrInvalidKey) {
		t.Errorf("a wrong name: %v", err)
	}
	if _, err := coordination.NewPresence(struct{ kv.Client }{c}, "ring", coordination.Options{}); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a client without extras: %v", err)
	}
	p := newPresence(t, c, nil)
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if _, err := p.Members(t.Context()); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Members after Close: %v", err)
	}
}
