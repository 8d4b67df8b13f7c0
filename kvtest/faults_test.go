package kvtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kvtest"
)

func open(t *testing.T) (*kvtest.Store, kv.Client) {
	t.Helper()
	store := kvtest.Wrap(inmemory.NewStore().Open())
	client := kv.New(store, codec.String{}, nil)
	t.Cleanup(func() { _ = client.Close() })
	return store, client
}

func put(t *testing.T, client kv.Client, key, value string) (calls int, err error) {
	t.Helper()
	err = client.CAS(t.Context(), key, func(any) (any, bool, error) {
		calls++
		return value, false, nil
	})
	return calls, err
}

func get(t *testing.T, client kv.Client, key string) any {
	t.Helper()
	value, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestWrites(t *testing.T) {
	for _, c := range []struct {
		name    string
		fault   func(*kvtest.Store)
		unknown bool
		calls   int
		then    any
	}{
		{"none", func(*kvtest.Store) {}, false, 1, "value"},
		{"LoseNextAnswer", (*kvtest.Store).LoseNextAnswer, true, 1, "value"},
		{"LoseNextWrite", (*kvtest.Store).LoseNextWrite, true, 1, nil},
		{"ConflictNext", (*kvtest.Store).ConflictNext, false, 2, "value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, client := open(t)
			c.fault(store)
			calls, err := put(t, client, "key", "value")
			if errors.Is(err, kv.ErrIndeterminate) != c.unknown || (err != nil) != c.unknown || calls != c.calls {
				t.Errorf("%v after %d calls", err, calls)
			}
			if got := get(t, client, "key"); got != c.then {
				t.Errorf("then the key is %v", got)
			}
			if calls, err := put(t, client, "other", "value"); err != nil || calls != 1 {
				t.Errorf("the next write: %v after %d calls", err, calls)
			}
		})
	}
}

func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, client := open(t)
		began := time.Now()
		store.Slow(time.Second)
		if get(t, client, "key"); time.Since(began) < time.Second {
			t.Errorf("a request took %v", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := client.Get(ctx, "key"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a request that was given up: %v", err)
		}
		store.Slow(0)
		began = time.Now()
		if get(t, client, "key"); time.Since(began) != 0 {
			t.Errorf("afterwards one took %v", time.Since(began))
		}
	})
}

// awaitState reads from a watch, which may be interrupted, until a key has a state.
func awaitState(t *testing.T, states <-chan string, want string) {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		select {
		case got := <-states:
			if got == want {
				return
			}
		case <-deadline:
			t.Fatalf("the watch never told %q", want)
		}
	}
}

func watch(t *testing.T, client kv.Client, key string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	states, done := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(done)
		client.WatchKey(ctx, key, func(v any) bool {
			if v == nil {
				v = "(deleted)"
			}
			states <- v.(string)
			return true
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return states
}

func TestForget(t *testing.T) {
	store, client := open(t)
	for _, key := range []string{"a", "b"} {
		if _, err := put(t, client, key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	states := watch(t, client, "a")
	awaitState(t, states, "1")
	page, err := store.Scan(t.Context(), driver.ScanRequest{Limit: 1})
	if err != nil || !page.More {
		t.Fatalf("%+v, %v", page, err)
	}
	sessions := store.Attempts()
	store.Forget()
	if _, err := store.Scan(t.Context(), driver.ScanRequest{Limit: 1, After: "a", Snapshot: page.Snapshot}); !errors.Is(err, driver.ErrSnapshotLost) {
		t.Errorf("a listing went on: %v", err)
	}
	if _, err := put(t, client, "a", "2"); err != nil {
		t.Fatal(err)
	}
	awaitState(t, states, "2")
	if store.Attempts() < sessions+3 { // the listing, the write, and another session
		t.Error("the watch's session did not end")
	}
}

func TestBackup(t *testing.T) {
	store, client := open(t)
	for _, key := range []string{"changed", "deleted"} {
		if _, err := put(t, client, key, "then"); err != nil {
			t.Fatal(err)
		}
	}
	restore, err := store.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	then, err := store.Get(t.Context(), driver.GetRequest{Key: "changed"})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"changed", "created"} {
		if _, err := put(t, client, key, "now"); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	changed, created := watch(t, client, "changed"), watch(t, client, "created")
	awaitState(t, changed, "now")
	awaitState(t, created, "now")
	if err := restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitState(t, changed, "then")
	awaitState(t, created, "(deleted)")
	for key, want := range map[string]any{"changed": "then", "deleted": "then", "created": nil} {
		if got := get(t, client, key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	back, err := store.Get(t.Context(), driver.GetRequest{Key: "changed"})
	if err != nil || back.Generation == then.Generation {
		t.Errorf("the history is the same: %+v, %v", back, err)
	}
}
