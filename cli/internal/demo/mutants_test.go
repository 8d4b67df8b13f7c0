package demo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

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

// mutant is a client that breaks one promise.
type mutant struct {
	name string
	wrap func(kv.Client) kv.Client
	rule string
}

// badWriters returns clients that break a promise about writes.
func badWriters() []mutant {
	return []mutant{
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
		{"does not delete", func(c kv.Client) kv.Client {
			return faulty{Forward: kv.Forward{Client: c}, delete: func(context.Context, string) error { return nil }}
		}, "keys"},
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
	}
}

// badReaders returns clients that break a promise about reads.
func badReaders() []mutant {
	return []mutant{
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
	}
}

// badWatchers returns clients that break a promise about watches.
func badWatchers() []mutant {
	return []mutant{
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
				return func(key string, value any, f func(string, any) bool) bool {
					f(key, value)
					return f(key, value)
				}
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
	}
}

func TestBrokenClientsAreFound(t *testing.T) {
	for _, c := range slices.Concat(badWriters(), badReaders(), badWatchers()) {
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
