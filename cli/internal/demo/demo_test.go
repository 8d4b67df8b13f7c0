package demo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small is a demo of a store in memory that is long enough to break what the
// wrapped clients break.
func small(store *inmemory.Store, wrap func(kv.Client) kv.Client) Options {
	return Options{
		Open: func(_ context.Context, observer kv.Observer) (kv.Client, error) {
			client, err := kv.Prefix(kv.New(store.Open(), codec.String{}, &kv.Options{Observer: observer}), "demo/")
			return wrap(client), err
		},
		Clients: 2, Workers: 4, Counters: 3, Duration: 150 * time.Millisecond, Settle: 250 * time.Millisecond,
	}
}

func honest(c kv.Client) kv.Client { return c }

func keysLeft(t *testing.T, store *inmemory.Store) []string {
	t.Helper()
	client := kv.New(store.Open(), codec.String{}, nil)
	defer client.Close()
	keys, err := client.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func broken(r *Report) []string {
	var ids []string
	for _, p := range r.Promises {
		if times, _ := p.Broken(); times > 0 {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

func TestHonestClientKeepsEveryPromise(t *testing.T) {
	store := inmemory.NewStore()
	var phases []string
	o := small(store, honest)
	o.Settle = 10 * time.Second
	o.Progress = func(p Progress) {
		if n := len(phases); n == 0 || phases[n-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
	}
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := report.Print(&text); err != nil {
		t.Fatal(err)
	}
	if report.Broken() != 0 || strings.Contains(text.String(), "BROKEN") {
		t.Error("a promise is reported as broken")
	}
	for _, want := range []string{"update a counter", "PER SECOND", "P99", "carried", "All 8 promises kept."} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	for _, p := range report.Promises {
		if p.Evidence == "" || strings.HasPrefix(p.Evidence, "0 ") {
			t.Errorf("%s was checked on nothing: %q", p.ID, p.Evidence)
		}
	}
	if t.Failed() {
		t.Log("\n" + text.String())
	}
	if left := keysLeft(t, store); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if want := []string{"running", "verifying", "cleaning up"}; !slices.Equal(phases, want) {
		t.Errorf("phases %q, want %q", phases, want)
	}
}

// every runs do on each nth call.
type every struct {
	mu     sync.Mutex
	n, nth int
}

func (e *every) now() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	return e.n%e.nth == 0
}

type casFunc = func(ctx context.Context, key string, f func(any) (any, bool, error)) error

// faulty is a client with one broken method.
type faulty struct {
	kv.Forward
	cas    casFunc
	get    func(ctx context.Context, key string) (any, error)
	list   func(ctx context.Context, prefix string) ([]string, error)
	delete func(ctx context.Context, key string) error
	watch  func(ctx context.Context, prefix string, f func(string, any) bool)
}

func (c faulty) CAS(ctx context.Context, key string, f func(any) (any, bool, error)) error {
	if c.cas != nil {
		return c.cas(ctx, key, f)
	}
	return c.Forward.CAS(ctx, key, f)
}

func (c faulty) Get(ctx context.Context, key string) (any, error) {
	if c.get != nil {
		return c.get(ctx, key)
	}
	return c.Forward.Get(ctx, key)
}

func (c faulty) List(ctx context.Context, prefix string) ([]string, error) {
	if c.list != nil {
		return c.list(ctx, prefix)
	}
	return c.Forward.List(ctx, prefix)
}

func (c faulty) Delete(ctx context.Context, key string) error {
	if c.delete != nil {
		return c.delete(ctx, key)
	}
	return c.Forward.Delete(ctx, key)
}

func (c faulty) WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool) {
	if c.watch != nil {
		c.watch(ctx, prefix, f)
		return
	}
	c.Forward.WatchPrefix(ctx, prefix, f)
}

// rarely returns a client whose CAS is done by cas now and then.
func rarely(c kv.Client, cas casFunc) kv.Client {
	turn := &every{nth: 20}
	return faulty{Forward: kv.Forward{Client: c}, cas: func(ctx context.Context, key string, f func(any) (any, bool, error)) error {
		if turn.now() {
			return cas(ctx, key, f)
		}
		return c.CAS(ctx, key, f)
	}}
}

// watching returns a client whose watches give each event to tell, which may
// give something else to the callback.
func watching(c kv.Client, tell func() func(key string, value any, f func(string, any) bool) bool) kv.Client {
	return faulty{Forward: kv.Forward{Client: c}, watch: func(ctx context.Context, prefix string, f func(string, any) bool) {
		tell := tell()
		c.WatchPrefix(ctx, prefix, func(key string, value any) bool { return tell(key, value, f) })
	}}
}

func TestBrokenClientsAreFound(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(kv.Client) kv.Client
		rule string
	}{
		{"loses updates", func(c kv.Client) kv.Client {
			return rarely(c, func(ctx context.Context, key string, f func(any) (any, bool, error)) error {
				in, err := c.Get(ctx, key)
				if err == nil {
					_, _, err = f(in)
				}
				return err
			})
		}, "counters"},
		{"applies twice", func(c kv.Client) kv.Client {
			return rarely(c, func(ctx context.Context, key string, f func(any) (any, bool, error)) error {
				return errors.Join(c.CAS(ctx, key, f), c.CAS(ctx, key, f))
			})
		}, "counters"},
		{"reads old values", func(c kv.Client) kv.Client {
			var mu sync.Mutex
			first := map[string]any{}
			return faulty{Forward: kv.Forward{Client: c}, get: func(ctx context.Context, key string) (any, error) {
				now, err := c.Get(ctx, key)
				mu.Lock()
				defer mu.Unlock()
				if _, known := first[key]; !known {
					first[key] = now
				}
				return first[key], err
			}}
		}, "reads"},
		{"does not delete", func(c kv.Client) kv.Client {
			return faulty{Forward: kv.Forward{Client: c}, delete: func(context.Context, string) error { return nil }}
		}, "keys"},
		{"lists out of order", func(c kv.Client) kv.Client {
			return faulty{Forward: kv.Forward{Client: c}, list: func(ctx context.Context, prefix string) ([]string, error) {
				keys, err := c.List(ctx, prefix)
				slices.Reverse(keys)
				return keys, err
			}}
		}, "list"},
		{"leaves a key out of the list", func(c kv.Client) kv.Client {
			return faulty{Forward: kv.Forward{Client: c}, list: func(ctx context.Context, prefix string) ([]string, error) {
				keys, err := c.List(ctx, prefix)
				return keys[:max(len(keys)-1, 0)], err
			}}
		}, "list"},
		{"drops watch events", func(c kv.Client) kv.Client {
			return watching(c, func() func(string, any, func(string, any) bool) bool {
				turn := every{nth: 2}
				return func(key string, value any, f func(string, any) bool) bool {
					if key == "counters/000" && !turn.now() {
						return true
					}
					return key == "counters/001" || f(key, value)
				}
			})
		}, "pictures"},
		{"hides deletions from watches", func(c kv.Client) kv.Client {
			return watching(c, func() func(string, any, func(string, any) bool) bool {
				return func(key string, value any, f func(string, any) bool) bool { return value == nil || f(key, value) }
			})
		}, "pictures"},
		{"repeats watch events", func(c kv.Client) kv.Client {
			return watching(c, func() func(string, any, func(string, any) bool) bool {
				return func(key string, value any, f func(string, any) bool) bool { return f(key, value) && f(key, value) }
			})
		}, "order"},
		{"shows an older state after a newer", func(c kv.Client) kv.Client {
			return watching(c, func() func(string, any, func(string, any) bool) bool {
				first := map[string]any{}
				return func(key string, value any, f func(string, any) bool) bool {
					if old, seen := first[key]; seen && old != value && value != nil {
						f(key, value)
						return f(key, old) && f(key, value)
					}
					first[key] = value
					return f(key, value)
				}
			})
		}, "order"},
		{"ends its watches", func(c kv.Client) kv.Client {
			return faulty{Forward: kv.Forward{Client: c}, watch: func(context.Context, string, func(string, any) bool) {}}
		}, "order"},
		{"gives up for contention", func(c kv.Client) kv.Client {
			return rarely(c, func(_ context.Context, key string, _ func(any) (any, bool, error)) error {
				return &kv.Error{Op: "CAS", Key: key, Err: kv.ErrConflict}
			})
		}, "contention"},
		{"fails without a cause", func(c kv.Client) kv.Client {
			return rarely(c, func(context.Context, string, func(any) (any, bool, error)) error {
				return errors.New("strange")
			})
		}, "errors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			report, err := Run(t.Context(), small(inmemory.NewStore(), c.wrap))
			if report == nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := report.Print(&text); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(broken(report), c.rule) {
				t.Errorf("%q is not reported as broken in\n%s", c.rule, text.String())
			}
			if !strings.Contains(text.String(), "BROKEN: ") || !strings.Contains(text.String(), "of 8 promises BROKEN.") {
				t.Errorf("BROKEN is not to be seen in\n%s", text.String())
			}
		})
	}
}

func TestUnknownOutcomesAreNotHeldAgainstTheStore(t *testing.T) {
	store := inmemory.NewStore()
	indeterminate := &kv.Error{Op: "CAS", Err: kv.ErrIndeterminate}
	turn := every{nth: 2}
	report, err := Run(t.Context(), small(store, func(c kv.Client) kv.Client {
		return rarely(c, func(ctx context.Context, key string, f func(any) (any, bool, error)) error {
			if turn.now() {
				return indeterminate
			}
			return errors.Join(c.CAS(ctx, key, f), indeterminate)
		})
	}))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := report.Print(&text); err != nil {
		t.Fatal(err)
	}
	if report.Broken() > 0 || !strings.Contains(text.String(), "of unknown outcome") ||
		!strings.Contains(text.String(), "failed because of the store") {
		t.Errorf("got\n%s", text.String())
	}
	if left := keysLeft(t, store); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestStoreThatNeverAnswers(t *testing.T) {
	unavailable := &kv.Error{Op: "CAS", Err: kv.ErrUnavailable}
	_, err := Run(t.Context(), small(inmemory.NewStore(), func(c kv.Client) kv.Client {
		return faulty{
			Forward: kv.Forward{Client: c},
			cas:     func(context.Context, string, func(any) (any, bool, error)) error { return unavailable },
			get:     func(context.Context, string) (any, error) { return nil, unavailable },
			delete:  func(context.Context, string) error { return unavailable },
		}
	}))
	if !errors.Is(err, kv.ErrUnavailable) || !strings.Contains(err.Error(), "no call succeeded") {
		t.Errorf("got %v", err)
	}
}

func TestInterruptVerifiesAndCleansUp(t *testing.T) {
	store := inmemory.NewStore()
	ctx, interrupt := context.WithCancel(t.Context())
	o := small(store, honest)
	o.Duration, o.Settle = time.Hour, 10*time.Second
	o.Progress = func(p Progress) {
		if p.Calls > 100 {
			interrupt()
		}
	}
	report, err := Run(ctx, o)
	if err != nil || report.Broken() > 0 || report.Elapsed > time.Minute {
		t.Errorf("report %+v, error %v", report, err)
	}
	if left := keysLeft(t, store); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestInterruptBeforeAnythingRan(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, small(inmemory.NewStore(), honest)); err == nil || !strings.Contains(err.Error(), "interrupted before") {
		t.Errorf("got %v", err)
	}
}

func TestKeysThatCannotBeRemoved(t *testing.T) {
	denied := &kv.Error{Op: "List", Err: kv.ErrPermission}
	calls := every{nth: 2} // the verification lists first
	report, err := Run(t.Context(), small(inmemory.NewStore(), func(c kv.Client) kv.Client {
		return faulty{Forward: kv.Forward{Client: c}, list: func(ctx context.Context, prefix string) ([]string, error) {
			if calls.now() {
				return nil, denied
			}
			return c.List(ctx, prefix)
		}}
	}))
	if report == nil || !errors.Is(err, kv.ErrPermission) || !errors.Is(err, ErrLeftBehind) {
		t.Errorf("report %v, error %v", report, err)
	}
}

func TestClientThatCannotBeOpened(t *testing.T) {
	o := small(inmemory.NewStore(), honest)
	opened := every{nth: 3}
	open := o.Open
	o.Open = func(ctx context.Context, observer kv.Observer) (kv.Client, error) {
		if opened.now() {
			return nil, errors.New("no more")
		}
		return open(ctx, observer)
	}
	if _, err := Run(t.Context(), o); err == nil || err.Error() != "no more" {
		t.Errorf("got %v", err)
	}
}
