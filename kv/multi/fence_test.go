package multi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// rig is a fleet for tests of single steps.
type rig struct {
	t *testing.T
	*fleet
	plain [2]kv.Client
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, fleet: newFleet(t)}
	for i, s := range []*inmemory.Store{r.first, r.second} {
		r.plain[i] = kv.New(s.Open(), codec.String{}, &kv.Options{Logger: quiet})
		t.Cleanup(func() { r.plain[i].Close() })
	}
	return r
}

func (r *rig) client(wrap func(at int, s driver.Store) driver.Store) *multi.Client {
	r.t.Helper()
	cfg := coordinatedConfig()
	cfg.FenceTimeout = 20 * time.Second
	return r.clientOf(cfg, wrap)
}

func (r *rig) clientOf(cfg multi.Config, wrap func(at int, s driver.Store) driver.Store) *multi.Client {
	r.t.Helper()
	o := kv.Options{Logger: quiet, RetryTimeout: 500 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond}
	c, err := r.open(cfg, codec.String{}, o, wrap)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) cutover() {
	r.t.Helper()
	if err := r.move(r.t, 1); err != nil {
		r.t.Fatal(err)
	}
}

// set writes a store's record past every command.
func (r *rig) set(at int, state migrate.State) {
	r.t.Helper()
	raw, err := kv.Raw(r.admins[at])
	if err != nil {
		r.t.Fatal(err)
	}
	err = raw.CAS(r.t.Context(), ".polykv/record", func(in any) (any, bool, error) {
		text := string(in.([]byte))
		_, rest, _ := strings.Cut(text, `"state":"`)
		was, _, _ := strings.Cut(rest, `"`)
		return []byte(strings.Replace(text, `"state":"`+was+`"`, `"state":"`+string(state)+`"`, 1)), false, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// A client that was cut off during the cutover comes back late: what it sends to
// the old store is fenced, and it goes on in the new one.
func TestALateClientCannotWriteToTheOldStore(t *testing.T) {
	r := newRig(t)
	held, goOn := make(chan struct{}), make(chan struct{})
	var holding atomic.Bool
	late := r.client(func(at int, s driver.Store) driver.Store {
		if at == 1 {
			return s
		}
		return &hooked{Store: s, beforeSwap: func(w driver.Swap) error {
			if w.Key == "k" && holding.CompareAndSwap(true, false) {
				close(held)
				<-goOn // it is on its way, for a long time
			}
			return nil
		}}
	})
	put(t, late, "k", "1")
	holding.Store(true)
	var writing sync.WaitGroup
	writing.Go(func() {
		if err := late.CAS(t.Context(), "k", increment); err != nil {
			t.Errorf("the late write returned %v", err)
		}
	})
	<-held
	r.cutover()
	put(t, r.plain[1], "k", "10") // by somebody who is ahead; unguarded, as a test may
	close(goOn)
	writing.Wait()
	if got := get(t, r.plain[1], "k"); got != "11" {
		t.Errorf("the new store holds %v", got)
	}
	if got := late.Primary(); got != "second" {
		t.Errorf("the late client's primary is %q", got)
	}
}

// Nor can its late mirror touch the new store: a client deletes the key there,
// and a mirrored write of before does not bring it back.
func TestALateMirrorCannotTouchTheNewPrimary(t *testing.T) {
	r := newRig(t)
	held, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	late := r.client(func(at int, s driver.Store) driver.Store {
		if at == 0 {
			return s
		}
		return &hooked{Store: s, beforeSwap: func(driver.Swap) error {
			once.Do(func() {
				close(held)
				<-goOn
			})
			return nil
		}, swapped: func(w driver.Swap, r driver.Result) {
			if r.Outcome != driver.GuardBroken {
				t.Errorf("the late mirror's swap under the guards %v: %v", w.Guards, r.Outcome)
			}
		}}
	})
	var writing sync.WaitGroup
	writing.Go(func() { put(t, late, "k", "A") })
	<-held
	r.cutover()
	other := r.client(nil)
	if err := other.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	writing.Wait()
	eventually(t, "the late client learns of the cutover", func() bool { return late.Primary() == "second" })
	eventually(t, "its backlog is empty", func() bool { return late.Status().Mirrors[1].Backlog == 0 })
	if got := get(t, r.plain[1], "k"); got != nil {
		t.Errorf("a mirrored write of before the cutover came back as %v", got)
	}
}

// A client that lags does not read from the sealed store what was overwritten
// in the new one.
func TestALaggingClientDoesNotReadTheSealedStore(t *testing.T) {
	r := newRig(t)
	var after atomic.Pointer[func()]
	lagging := r.client(func(at int, s driver.Store) driver.Store {
		if at == 1 {
			return s
		}
		return &hooked{Store: s, afterGet: func(key string) {
			if f := after.Swap(nil); f != nil && key == "k" {
				(*f)()
			}
		}}
	})
	put(t, lagging, "k", "old")
	r.set(0, migrate.State("sealed"))
	r.set(1, migrate.State("filling"))
	if got := get(t, lagging, "k"); got != "old" {
		t.Errorf("amid a cutover the sealed store is read as %v", got)
	}
	ahead := func() { // between the read of the sealed store and its answer
		r.set(1, migrate.State("primary"))
		put(t, r.plain[1], "k", "new")
	}
	after.Store(&ahead)
	if got := get(t, lagging, "k"); got != "new" {
		t.Errorf("after a write to the new store was acknowledged, a read gave %v", got)
	}
	if keys, err := lagging.List(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("List = %v, %v", keys, err)
	}
}

// A listing that was under way during the cutover is made again.
func TestAListingAmidACutoverIsMadeAgain(t *testing.T) {
	r := newRig(t)
	var moving atomic.Pointer[func()]
	c := r.client(func(at int, s driver.Store) driver.Store {
		return scanHook{s, func() {
			if f := moving.Swap(nil); f != nil {
				(*f)()
			}
		}}
	})
	put(t, c, "a", "1")
	ahead := r.client(nil)
	for _, list := range []func() []string{
		func() []string {
			keys, err := c.List(t.Context(), "")
			if err != nil {
				t.Error(err)
			}
			return keys
		},
		func() (keys []string) {
			for e, err := range c.Entries(t.Context(), "") {
				if err != nil {
					t.Error(err)
				}
				keys = append(keys, e.Key)
			}
			return keys
		},
	} {
		target := 1
		if c.Primary() == "second" {
			target = 0
		}
		move := func() { // after the scan, before its answer
			if err := r.move(t, target); err != nil {
				t.Error(err)
			}
			put(t, ahead, fmt.Sprint("b", target), "2")
		}
		moving.Store(&move)
		keys := list()
		if want := fmt.Sprint("b", target); len(keys) < 2 || keys[0] != "a" || !strings.Contains(fmt.Sprint(keys), want) {
			t.Errorf("a listing after the write of %s was acknowledged: %v", want, keys)
		}
	}
}

// A loop over a sealed store's entries that is left as the record changes is
// over: the store is not read again, and nothing more is yielded.
func TestALoopThatWasLeftIsOver(t *testing.T) {
	r := newRig(t)
	c := r.client(nil)
	put(t, c, "a", "1")
	put(t, c, "b", "2")
	r.set(0, migrate.State("sealed"))
	eventually(t, "the client knows the store as sealed", func() bool { return c.Status().Primary == "" })
	items := 0
	for _, err := range c.Entries(t.Context(), "") { // the runtime panics if it goes on
		if err != nil {
			t.Error(err)
		}
		items++
		r.set(0, migrate.State("primary"))
		break
	}
	if items != 1 {
		t.Errorf("%d items", items)
	}
}

// scanHook calls a function after every scan of users' keys.
type scanHook struct {
	driver.Store
	after func()
}

func (s scanHook) Scan(ctx context.Context, r driver.ScanRequest) (driver.Page, error) {
	page, err := s.Store.Scan(ctx, r)
	if !isOwn(r.Prefix) && r.KeysOnly || len(page.Entries) > 0 {
		s.after()
	}
	return page, err
}

// An unknown write followed by a broken guard: at its old state it is run again
// in the new store, once; with our mark on it it is a success; and a creation
// that can't be told is indeterminate.
func TestUnknownWritesAmidACutoverAreResolved(t *testing.T) {
	for name, c := range map[string]struct {
		exists, lands bool
		want          any
		err           error
	}{
		"at its old state":        {exists: true, lands: false, want: "2"},
		"landed, but who can say": {exists: true, lands: true, want: "2", err: kv.ErrIndeterminate},
		"a creation, not landed":  {exists: false, lands: false, want: nil, err: kv.ErrIndeterminate},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var losing atomic.Bool
			lost := make(chan struct{})
			client := r.client(func(at int, s driver.Store) driver.Store {
				if at == 1 {
					return s
				}
				return &losingStore{Store: s, losing: &losing, lands: c.lands, lost: lost, goOn: r.cutover}
			})
			if c.exists {
				put(t, client, "k", "1")
			}
			losing.Store(true)
			err := client.CAS(t.Context(), "k", increment)
			<-lost
			if !errors.Is(err, c.err) {
				t.Errorf("the write returned %v, want %v", err, c.err)
			}
			if got := get(t, r.plain[1], "k"); got != c.want {
				t.Errorf("the new store holds %v, want %v", got, c.want)
			}
		})
	}
}

// losingStore loses the answer of one write, or the write itself, and then has
// the fleet moved.
type losingStore struct {
	driver.Store
	losing *atomic.Bool
	lands  bool
	lost   chan struct{}
	goOn   func()
}

func (s *losingStore) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if isOwn(w.Key) || !s.losing.CompareAndSwap(true, false) {
		return s.Store.Swap(ctx, w)
	}
	if s.lands {
		if _, err := s.Store.Swap(ctx, w); err != nil {
			return driver.Result{}, err
		}
	}
	s.goOn()
	close(s.lost)
	return driver.Result{Outcome: driver.Unknown}, errors.New("the answer was lost")
}
