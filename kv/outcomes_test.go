package kv_test

import (
	"context"
	"errors"
	"hash/fnv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// A driver that says no more than that it failed is believed: what was not
// applied is tried again until RetryTimeout, and is no conflict.
func TestOutcomesWithoutAReason(t *testing.T) {
	for outcome, want := range map[driver.Outcome]error{
		driver.NotApplied: kv.ErrUnavailable,
		driver.Unknown:    kv.ErrIndeterminate,
	} {
		t.Run(outcome.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, kv.Options{ContentionTimeout: time.Second, RetryTimeout: time.Minute})
				r.store.onSwap = func(context.Context, driver.Swap, func() (driver.Result, error)) (driver.Result, error) {
					return driver.Result{Outcome: outcome}, nil
				}
				err := r.client.CAS(t.Context(), "n", increment)
				if !errors.Is(err, want) || !strings.Contains(err.Error(), "gave no reason") {
					t.Errorf("CAS = %v, want %v and that there is no reason", err, want)
				}
			})
		})
	}
}

// small is a store with room for 4 bytes, and for 2 beside guards.
type small struct{ *hooked }

func (small) Limits() driver.Limits {
	return driver.Limits{Key: kv.MaxKeyLen, Value: 4, GuardedValue: 2, Guards: 1}
}

func TestGuardedWritesHaveTheirOwnLimit(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.other, "guard", "g")
	client := kv.New(small{r.store}, stringCodec, nil)
	versioned, err := kv.Versioned(client)
	if err != nil {
		t.Fatal(err)
	}
	guarded, err := kv.Guarded(client)
	if err != nil {
		t.Fatal(err)
	}
	_, version, err := versioned.GetVersion(t.Context(), "guard")
	if err != nil {
		t.Fatal(err)
	}
	guard := kv.Guard{Key: "guard", Version: version}
	for name, write := range map[string]func(value string, guards ...kv.Guard) error{
		"CAS": func(value string, guards ...kv.Guard) error {
			return guarded.CASGuarded(t.Context(), "cas", set(value), guards...)
		},
		"SwapVersion": func(value string, guards ...kv.Guard) error {
			_, err := versioned.SwapVersion(t.Context(), "swap"+value, 0, value, guards...)
			return err
		},
	} {
		for value, c := range map[string]struct {
			guards []kv.Guard
			want   error
		}{
			"four":  {nil, nil},
			"fives": {nil, kv.ErrTooLarge},
			"ab":    {[]kv.Guard{guard}, nil},
			"abc":   {[]kv.Guard{guard}, kv.ErrTooLarge},
		} {
			if err := write(value, c.guards...); !errors.Is(err, c.want) {
				t.Errorf("%s of %q with %d guards: %v, want %v", name, value, len(c.guards), err, c.want)
			}
		}
	}
}

// objects is a store that keeps strings decoded, of at most three letters.
type objects struct{ *hooked }

func (s objects) Values() driver.Values { return words{} }

func (s objects) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	entry, err := s.hooked.Get(ctx, req)
	return decoded(entry), err
}

func (s objects) Swap(ctx context.Context, sw driver.Swap) (driver.Result, error) {
	made, _ := sw.Object.(string)
	if before, _ := sw.Prev.Object.(string); !sw.Remove && !strings.HasPrefix(made, before+">") {
		return driver.Result{Outcome: driver.NotApplied}, driver.Permanent(errors.New("not made from what it replaces"))
	}
	sw.Value = []byte(made)
	result, err := s.hooked.Swap(ctx, sw)
	result.Entry = decoded(result.Entry)
	return result, err
}

func (s objects) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	return s.hooked.Watch(ctx, req, func(ev driver.Event) { ev.Entry = decoded(ev.Entry); emit(ev) })
}

func decoded(entry driver.Entry) driver.Entry {
	if entry.Exists() {
		entry.Object, entry.Value = string(entry.Value), nil
	}
	return entry
}

// words are objects that tell what they were made from: "a>b" is the value "b".
type words struct{}

func (words) Raw() driver.Values { return words{} }

func (words) Value(object any, _ bool) (any, error) {
	made, _ := object.(string)
	return made[strings.LastIndex(made, ">")+1:], nil
}

func (words) Object(_ string, prev, value any, limit int) (any, error) {
	before, _ := prev.(string)
	after, _ := value.(string)
	if limit > 0 && len(after) > 3 {
		return nil, kv.ErrTooLarge
	}
	return before + ">" + after, nil
}

func (words) Sum(object any) [2]uint64 {
	made, _ := object.(string)
	h := fnv.New64a()
	h.Write([]byte(made[strings.LastIndex(made, ">")+1:]))
	return [2]uint64{h.Sum64()}
}

// On a store of objects each is made from the one that it replaces, also by who
// knows the version alone.
func TestSwapVersionOfObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{})
		client := kv.New(objects{r.store}, stringCodec, nil)
		defer client.Close()
		v, err := kv.Versioned(client)
		if err != nil {
			t.Fatal(err)
		}
		first, err := v.SwapVersion(t.Context(), "k", 0, "a")
		if err != nil {
			t.Fatal(err)
		}
		second, err := v.SwapVersion(t.Context(), "k", first, "b")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.SwapVersion(t.Context(), "k", first, "c"); !errors.Is(err, kv.ErrConflict) {
			t.Errorf("a swap of a version that is over: %v", err)
		}
		if _, err := v.SwapVersion(t.Context(), "k", second, "long"); !errors.Is(err, kv.ErrTooLarge) {
			t.Errorf("a swap that is too large: %v", err)
		}
		calls := watchPrefix(t, client, "", nil)
		wantCalls(t, calls, call{"k", "b"})
		r.put(client, "k", "b") // the same state, which is no event
		r.put(client, "k", "d")
		wantCalls(t, calls, call{"k", "d"})
		r.store.onGet = func(context.Context, driver.GetRequest) error { return driver.ErrPermission }
		if _, err := v.SwapVersion(t.Context(), "k", second, "e"); !errors.Is(err, kv.ErrPermission) {
			t.Errorf("what can't be read: %v", err)
		}
		r.store.unhooked.Store(true)
		if got, err := client.Get(t.Context(), "k"); got != "d" || err != nil {
			t.Errorf("Get = %v, %v", got, err)
		}
		if err := client.Delete(t.Context(), "k"); err != nil {
			t.Error(err)
		}
		wantCalls(t, calls, call{"k", nil})
		r.want("k", nil)
	})
}
