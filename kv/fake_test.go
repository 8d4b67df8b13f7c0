package kv_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/polykv/polykv/kv"
)

// fake is a kv.Client with every optional interface that writes down what it
// was asked, for tests of what a wrapper asks for. It keeps values as they
// are and knows keys only by kv.CheckKey. Tests of behaviour use real clients.
type fake struct {
	mu     sync.Mutex
	data   map[string]kv.Entry
	calls  []string
	script []kv.Event // what Watch delivers before its end
	end    error      // what Watch ends with
	limits kv.Limits
	raw    *fake // the view that Raw returns
	isRaw  bool
}

func newFake(keys ...string) *fake {
	f := &fake{data: map[string]kv.Entry{}, limits: kv.Limits{Key: kv.MaxKeyLen, Value: 1000, GuardedValue: 500}}
	f.raw = &fake{data: f.data, limits: f.limits, isRaw: true}
	for i, key := range keys {
		f.data[key] = kv.Entry{Key: key, Value: "value of " + key, Version: kv.Version(i + 1)}
	}
	return f
}

// asked writes a call down; only keys that the fake accepts get this far.
func (f *fake) asked(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

// took returns what was asked since the last time.
func (f *fake) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fake) check(op, key string) error {
	if err := kv.CheckKey(key); err != nil && !f.isRaw {
		return &kv.Error{Op: op, Backend: "fake", Key: key, Err: err}
	}
	return nil
}

func guardNames(guards []kv.Guard) string {
	if len(guards) == 0 {
		return "-"
	}
	names := make([]string, len(guards))
	for i, g := range guards {
		names[i] = fmt.Sprintf("%s@%d", g.Key, g.Version)
	}
	return strings.Join(names, " ")
}

func (f *fake) keys(prefix string) []string {
	keys := slices.Sorted(maps.Keys(f.data))
	return slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) })
}

func (f *fake) List(_ context.Context, prefix string) ([]string, error) {
	f.asked("List %s", prefix)
	return f.keys(prefix), nil
}

func (f *fake) Get(_ context.Context, key string) (any, error) {
	if err := f.check("Get", key); err != nil {
		return nil, err
	}
	f.asked("Get %s", key)
	return f.data[key].Value, nil
}

func (f *fake) Delete(_ context.Context, key string) error {
	if err := f.check("Delete", key); err != nil {
		return err
	}
	f.asked("Delete %s", key)
	delete(f.data, key)
	return nil
}

func (f *fake) CAS(_ context.Context, key string, cb func(any) (any, bool, error)) error {
	if err := f.check("CAS", key); err != nil {
		return err
	}
	f.asked("CAS %s", key)
	return f.cas(key, cb)
}

func (f *fake) cas(key string, cb func(any) (any, bool, error)) error {
	out, _, err := cb(f.data[key].Value)
	switch out {
	case nil:
	case kv.Remove:
		delete(f.data, key)
	default:
		f.data[key] = kv.Entry{Key: key, Value: out, Version: f.data[key].Version + 1}
	}
	return err
}

func (f *fake) WatchKey(_ context.Context, key string, cb func(any) bool) {
	if f.check("WatchKey", key) != nil {
		return
	}
	f.asked("WatchKey %s", key)
	for _, value := range []any{f.data[key].Value, nil, "again"} {
		if !cb(value) {
			return
		}
	}
}

func (f *fake) WatchPrefix(_ context.Context, prefix string, cb func(string, any) bool) {
	f.asked("WatchPrefix %s", prefix)
	for _, key := range f.keys(prefix) {
		if !cb(key, f.data[key].Value) || !cb(key, nil) {
			return
		}
	}
}

func (f *fake) Close() error {
	f.asked("Close")
	return nil
}

func (f *fake) Watch(_ context.Context, r kv.Range, cb func(kv.Event) bool) error {
	f.asked("Watch %s %v", r.Key, r.IsPrefix)
	for _, event := range f.script {
		if !cb(event) {
			return nil
		}
	}
	return f.end
}

func (f *fake) Entries(_ context.Context, prefix string) iter.Seq2[kv.Entry, error] {
	f.asked("Entries %s", prefix)
	return func(yield func(kv.Entry, error) bool) {
		for _, key := range f.keys(prefix) {
			if !yield(f.data[key], nil) {
				return
			}
		}
	}
}

func (f *fake) Ping(context.Context) error {
	f.asked("Ping")
	return nil
}

func (f *fake) GetGuarded(_ context.Context, key string, guards ...kv.Guard) (any, error) {
	f.asked("GetGuarded %s %s", key, guardNames(guards))
	return f.data[key].Value, f.check("GetGuarded", key)
}

func (f *fake) CASGuarded(_ context.Context, key string, cb func(any) (any, bool, error), guards ...kv.Guard) error {
	f.asked("CASGuarded %s %s", key, guardNames(guards))
	return f.cas(key, cb)
}

func (f *fake) DeleteGuarded(_ context.Context, key string, guards ...kv.Guard) error {
	f.asked("DeleteGuarded %s %s", key, guardNames(guards))
	return nil
}

func (f *fake) GetVersion(_ context.Context, key string, guards ...kv.Guard) (any, kv.Version, error) {
	f.asked("GetVersion %s %s", key, guardNames(guards))
	return f.data[key].Value, f.data[key].Version, nil
}

func (f *fake) SwapVersion(_ context.Context, key string, prev kv.Version, value any, guards ...kv.Guard) (kv.Version, error) {
	f.asked("SwapVersion %s %d %v %s", key, prev, value, guardNames(guards))
	return prev + 1, nil
}

func (f *fake) Raw() (kv.Client, error) {
	f.asked("Raw")
	return f.raw, nil
}

func (f *fake) Limits() (kv.Limits, error) { return f.limits, nil }

// plain has none of the optional interfaces.
type plain struct{ kv.Client }
