package kv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/polykv/polykv/kv"
)

func TestTypedWatch(t *testing.T) {
	down, bad := errors.New("connection lost"), errors.New("truncated")
	c := newFake()
	c.script = []kv.Event{
		{Type: kv.Put, Key: "a", Value: &user{"ada"}},
		{Type: kv.Synced},
		{Type: kv.Interrupted, Err: down},
		{Type: kv.Undecodable, Key: "a", Err: bad},
		{Type: kv.Put, Key: "b", Value: user{"bob"}},
		{Type: kv.Delete, Key: "a"},
	}
	c.end = &kv.Error{Op: "Watch", Err: kv.ErrClosed}

	var got []kv.TypedEvent[*user]
	var errs []error
	for event, err := range kv.Typed[*user](c).Watch(t.Context(), kv.PrefixRange("")) {
		got, errs = append(got, event), append(errs, err)
	}

	if len(got) != 7 {
		t.Fatalf("got %d items, want 6 events and the end: %v", len(got), got)
	}
	if v := got[0].Value; v == nil || v.Name != "ada" {
		t.Errorf("the first value is %v", v)
	}
	got[0].Value = nil
	want := []kv.TypedEvent[*user]{
		{Type: kv.Put, Key: "a"},
		{Type: kv.Synced},
		{Type: kv.Interrupted},
		{Type: kv.Undecodable, Key: "a"},
		{Type: kv.Undecodable, Key: "b"},
		{Type: kv.Delete, Key: "a"},
		{},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	wantWrongType(t, "Watch", "b", errs[4])
	errs[4] = nil
	if want := []error{nil, nil, down, bad, nil, nil, c.end}; !slices.Equal(errs, want) {
		t.Errorf("errors are %v, want %v", errs, want)
	}
}

func TestTypedWatchLeft(t *testing.T) {
	c := newFake()
	c.script = []kv.Event{{Type: kv.Synced}, {Type: kv.Interrupted, Err: errors.New("down")}, {Type: kv.Synced}}
	events := kv.Typed[string](c).Watch(t.Context(), kv.KeyRange("k"))
	for leaveAfter := 1; leaveAfter <= 3; leaveAfter++ { // each loop is a watch of its own
		items := 0
		for event, err := range events {
			if items++; (err != nil) != (event.Type == kv.Interrupted) {
				t.Errorf("%v came with error %v", event.Type, err)
			}
			if items == leaveAfter {
				break
			}
		}
		if items != leaveAfter {
			t.Errorf("saw %d items, want %d", items, leaveAfter)
		}
	}
	if got := c.took(); len(got) != 3 || got[0] != "Watch k false" {
		t.Errorf("asked for %q", got)
	}
}

// lateError ends every watch with an error, even one that f has ended, as may
// happen when ctx ends at the same moment.
type lateError struct{ *fake }

func (c lateError) Watch(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
	_ = c.fake.Watch(ctx, r, f)
	return context.Canceled
}

func TestTypedWatchYieldsNothingAfterItWasLeft(t *testing.T) {
	c := newFake()
	c.script = []kv.Event{{Type: kv.Synced}}
	for _, err := range kv.Typed[string](lateError{c}).Watch(t.Context(), kv.PrefixRange("")) {
		if err != nil {
			t.Error(err)
		}
		break // the runtime panics if the iterator yields again
	}
}

// onceTooOften calls f after it returned false.
type onceTooOften struct{ *fake }

func (c onceTooOften) Watch(_ context.Context, _ kv.Range, f func(kv.Event) bool) error {
	for f(kv.Event{Type: kv.Synced}) {
	}
	if f(kv.Event{Type: kv.Interrupted, Err: kv.ErrUnavailable}) {
		return kv.ErrUnavailable
	}
	return nil
}

func TestTypedWatchIsLeftThoughItsClientGoesOn(t *testing.T) {
	for _, err := range kv.Typed[string](onceTooOften{newFake()}).Watch(t.Context(), kv.PrefixRange("")) {
		if err != nil {
			t.Error(err)
		}
		break // the runtime panics if the iterator yields again
	}
}

func TestTypedWatchEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		c    kv.Client
		want error
	}{
		"without kv.Watcher": {plain{newFake()}, kv.ErrNotSupported},
		"ctx":                {&fake{end: fmt.Errorf("ended: %w", context.Canceled)}, context.Canceled},
	} {
		items := 0
		for event, err := range kv.Typed[string](tc.c).Watch(t.Context(), kv.KeyRange("k")) {
			if items++; event != (kv.TypedEvent[string]{}) || !errors.Is(err, tc.want) {
				t.Errorf("%s: got %v, %v, want only %v", name, event, err, tc.want)
			}
		}
		if items != 1 {
			t.Errorf("%s: got %d items, want 1", name, items)
		}
	}
}
