package kv_test

import (
	"context"
	"errors"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// Members of a group whose swap is unknown and who wrote nothing decide again;
// those who wrote are indeterminate.
func TestUnknownSwapOfAGroup(t *testing.T) {
	r := newRig(t, patient)
	r.put(r.client, "n", "1")
	held, release := make(chan struct{}), make(chan struct{})
	swaps := 0
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		swaps++
		switch swaps {
		case 1: // of the call that is alone, to let the others gather
			close(held)
			<-release
			return do()
		case 2: // of the group
			return lost(true, do)
		default:
			return do()
		}
	}
	results := make(chan error, 3)
	cas := func(f func(any) (any, bool, error)) {
		results <- r.client.CAS(t.Context(), "n", f)
	}
	go cas(increment)
	receive(t, "first swap", held)
	var declined any
	go cas(increment)
	go cas(func(in any) (any, bool, error) { declined = in; return nil, false, nil })
	waiting := func() bool { return kv.QueueLen(r.client, "n") == 2 }
	eventually(t, "two callers wait", waiting)
	close(release)
	indeterminate := 0
	for range 3 {
		switch err := receive(t, "result", results); {
		case errors.Is(err, kv.ErrIndeterminate):
			indeterminate++
		case err != nil:
			t.Error(err)
		}
	}
	if indeterminate != 1 || declined != "3" {
		t.Errorf("%d calls are indeterminate, want 1; the decline was made on %v, want 3", indeterminate, declined)
	}
	r.want("n", "3")
}

func TestDeleteInAGroupOfUnknownOutcome(t *testing.T) {
	r := newRig(t, patient)
	r.put(r.client, "k", "1")
	loseFirst(r, true, nil)
	result := make(chan error, 2)
	release, first := gather(r, "k",
		func() error { return r.client.CAS(t.Context(), "k", increment) },
		func() { result <- r.client.Delete(t.Context(), "k") },
		func() { result <- r.client.Delete(t.Context(), "k") },
	)
	release()
	for _, ch := range []<-chan error{first, result, result} {
		if err := receive(t, "result", ch); err != nil {
			t.Errorf("the key is gone, so it was deleted after the call began: %v", err)
		}
	}
	r.want("k", nil)
}

// Leaving after the group's swap was sent is indeterminate for who wrote, and
// for nobody else.
func TestMemberLeavesAfterTheSwapWasSent(t *testing.T) {
	r := newRig(t, kv.Options{})
	sent, answer := make(chan struct{}), make(chan struct{})
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		close(sent)
		<-answer
		return do()
	}
	ctx, cancel := context.WithCancel(t.Context())
	writer, decliner, stays := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	release, first := gather(r, "n",
		func() error { return r.client.CAS(t.Context(), "n", increment) },
		func() { writer <- r.client.CAS(ctx, "n", increment) },
		func() { decliner <- r.client.CAS(ctx, "n", func(any) (any, bool, error) { return nil, false, nil }) },
		func() { stays <- r.client.CAS(t.Context(), "n", increment) },
	)
	release()
	receive(t, "the group's swap", sent)
	cancel()
	if err := receive(t, "the writer's result", writer); !errors.Is(err, context.Canceled) || !errors.Is(err, kv.ErrIndeterminate) {
		t.Errorf("who wrote got %v, want context.Canceled and ErrIndeterminate", err)
	}
	if err := receive(t, "the decliner's result", decliner); !errors.Is(err, context.Canceled) || errors.Is(err, kv.ErrIndeterminate) {
		t.Errorf("who wrote nothing got %v, want context.Canceled alone", err)
	}
	close(answer)
	for _, ch := range []<-chan error{first, stays} {
		if err := receive(t, "result", ch); err != nil {
			t.Error(err)
		}
	}
	r.want("n", "3") // the writer's was applied with the others'
}

// So it is when the group's writes cancel each other out, and nothing is sent:
// another member may have decided on what the leaver wrote.
func TestMemberLeavesWritesThatCancelOut(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "n", "0")
	confirming, answer := make(chan struct{}), make(chan struct{})
	r.store.onGet = func(context.Context, driver.GetRequest) error {
		close(confirming)
		<-answer
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	writer, reader, deleter := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	var saw any
	release, first := gather(r, "n",
		func() error { return r.client.Delete(t.Context(), "n") },
		func() { writer <- r.client.CAS(ctx, "n", set("written")) },
		func() {
			reader <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
				saw = in
				return nil, false, nil
			})
		},
		func() { deleter <- r.client.Delete(t.Context(), "n") },
	)
	release()
	receive(t, "the read that confirms", confirming)
	cancel()
	left := receive(t, "the writer's result", writer)
	close(answer)
	for _, ch := range []<-chan error{first, reader, deleter} {
		if err := receive(t, "result", ch); err != nil {
			t.Error(err)
		}
	}
	if saw != "written" || !errors.Is(left, kv.ErrIndeterminate) {
		t.Errorf("a decision rests on %v; who wrote that got %v, want ErrIndeterminate", saw, left)
	}
	r.want("n", nil)
}
