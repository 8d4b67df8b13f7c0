package drivertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/kv"
)

// Credentials is a client whose credentials are revoked and given back while it
// watches.
type Credentials struct {
	Client, Root    kv.Client    // Root sees the same keys, with all rights
	Log             *testlog.Log // of Client
	Secrets         []string     // none of which may be told
	Revoke, Restore func()       // Revoke also ends Client's connections, if need be
}

// Revoked wants a watch whose credentials are revoked to tell of no deletion
// but the one that there was, and to go on when they are replaced; and each
// call in between to fail promptly for want of permission.
func (cr Credentials) Revoked(t *testing.T) {
	t.Helper()
	for _, key := range []string{"p/changed", "p/deleted", "p/same"} {
		put(t, cr.Root, key, "1")
	}
	w := cr.watch(t)
	w.wants(t, "put p/changed=1", "put p/deleted=1", "put p/same=1", "synced")
	cr.Revoke()
	w.interrupted(t)
	cr.refused(t)
	put(t, cr.Root, "p/changed", "2")
	if err := cr.Root.Delete(t.Context(), "p/deleted"); err != nil {
		t.Fatal(err)
	}
	if got := w.news(); len(got) > 0 {
		t.Errorf("without permission the watch told %q", got)
	}
	cr.Restore()
	w.wants(t, "put p/changed=2", "delete p/deleted", "synced")
	put(t, cr.Root, "p/same", "2")
	w.wants(t, "put p/same=2")
	for _, secret := range cr.Secrets {
		if log := cr.Log.String(); secret == "" || strings.Contains(log, secret) {
			t.Errorf("a secret is in the log:\n%s", log)
		}
	}
}

// refused makes every call, none of which may be retried until it times out.
func (cr Credentials) refused(t *testing.T) {
	t.Helper()
	ctx := WithTimeout(t, patience)
	for name, call := range map[string]func() error{
		"Get":    func() error { _, err := cr.Client.Get(ctx, "p/same"); return err },
		"List":   func() error { _, err := cr.Client.List(ctx, "p/"); return err },
		"Delete": func() error { return cr.Client.Delete(ctx, "p/same") },
		"CAS": func() error {
			return cr.Client.CAS(ctx, "p/new", func(any) (any, bool, error) { return "v", false, nil })
		},
		"Entries": func() error {
			for e, err := range kv.Entries(ctx, cr.Client, "p/") {
				if err == nil {
					return fmt.Errorf("it yields %q", e.Key)
				}
				return err
			}
			return nil
		},
		"Ping": func() error { return kv.Ping(ctx, cr.Client) },
	} {
		err := call()
		if !errors.Is(err, kv.ErrPermission) || errors.Is(err, kv.ErrUnavailable) || ctx.Err() != nil {
			t.Errorf("%s without permission: %v", name, err)
		}
		for _, secret := range cr.Secrets {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: a secret is in the error: %v", name, err)
			}
		}
	}
}

// watched is what a watch told, as text.
type watched struct {
	mu     sync.Mutex
	events []string
	gaps   []error
}

func (cr Credentials) watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := kv.Watch(ctx, cr.Client, kv.PrefixRange("p/"), w.take); !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *watched) take(ev kv.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch ev.Type {
	case kv.Put:
		w.events = append(w.events, fmt.Sprintf("put %s=%s", ev.Key, ev.Value))
	case kv.Delete:
		w.events = append(w.events, "delete "+ev.Key)
	case kv.Synced:
		w.events = append(w.events, "synced")
	case kv.Interrupted:
		w.gaps = append(w.gaps, ev.Err)
	default:
		w.events = append(w.events, fmt.Sprint(ev))
	}
	return true
}

func (w *watched) news() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events
}

// wants waits for exactly these events, in some order up to the last one, and
// takes them.
func (w *watched) wants(t *testing.T, want ...string) {
	t.Helper()
	Eventually(t, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.events) < len(want) {
			return fmt.Errorf("the watch told %q, want %q", w.events, want)
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := strings.Join(w.events, "\n") + "\n"
	for _, event := range want {
		rest = strings.Replace(rest, event+"\n", "", 1)
	}
	if rest != "" || w.events[len(w.events)-1] != want[len(want)-1] {
		t.Fatalf("the watch told %q, want %q", w.events, want)
	}
	w.events = nil
}

// interrupted waits until the watch tells that it may not go on.
func (w *watched) interrupted(t *testing.T) {
	t.Helper()
	Eventually(t, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !errors.Is(errors.Join(w.gaps...), kv.ErrPermission) {
			return fmt.Errorf("the watch was interrupted by %q", w.gaps)
		}
		return nil
	})
}
