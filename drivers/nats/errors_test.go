package nats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/kv/driver"
)

// What the end of a write proves, and what the engine can match of it.
func TestWhatErrorsProve(t *testing.T) {
	of := func(code jetstream.ErrorCode, description string) error {
		return fmt.Errorf("put: %w", &jetstream.APIError{Code: 400, ErrorCode: code, Description: description})
	}
	over, end := context.WithCancel(t.Context())
	end()
	for _, test := range []struct {
		err      error
		outcome  driver.Outcome
		is       error // nil: no sentinel
		conflict bool
	}{
		{of(jetstream.JSErrCodeStreamWrongLastSequence, ""), driver.Conflict, nil, true},
		{of(codeOtherWrite, ""), driver.NotApplied, nil, true},
		{of(codeMessageTooLarge, ""), driver.NotApplied, driver.ErrTooLarge, false},
		{of(codeStreamSealed, ""), driver.NotApplied, nil, false},
		{of(codeIncompleteBatch, ""), driver.NotApplied, nil, false},
		{of(codeTooManyBatches, ""), driver.NotApplied, nil, false},
		{of(codeInsufficientResources, ""), driver.NotApplied, driver.ErrFull, false},
		{of(codeMemoryExceeded, ""), driver.NotApplied, driver.ErrFull, false},
		{of(codeStorageExceeded, ""), driver.NotApplied, driver.ErrFull, false},
		{of(codeAccountExceeded, ""), driver.NotApplied, driver.ErrFull, false},
		{of(codeStoreFailed, "maximum bytes exceeded"), driver.NotApplied, driver.ErrFull, false},
		{of(codeStoreFailed, "maximum messages exceeded"), driver.NotApplied, driver.ErrFull, false},
		{of(codeStoreFailed, "input/output error"), driver.Unknown, nil, false},
		{of(10008, "JetStream system temporarily unavailable"), driver.Unknown, nil, false},
		{refusal{nats.ErrPermissionViolation}, driver.NotApplied, driver.ErrPermission, false},
		{refusal{io.EOF}, driver.NotApplied, io.EOF, false},
		{nats.ErrAuthorization, driver.Unknown, driver.ErrPermission, false},
		{nats.ErrAuthExpired, driver.Unknown, driver.ErrPermission, false},
		{nats.ErrAuthRevoked, driver.Unknown, driver.ErrPermission, false},
		{nats.ErrAccountAuthExpired, driver.Unknown, driver.ErrPermission, false},
		{jetstream.ErrNoStreamResponse, driver.NotApplied, nil, false},
		{nats.ErrMaxPayload, driver.NotApplied, driver.ErrTooLarge, false},
		{nats.ErrTimeout, driver.Unknown, nats.ErrTimeout, false},
	} {
		if got := outcome(test.err); got != test.outcome || isConflict(test.err) != test.conflict {
			t.Errorf("%v: %v, conflict: %v; want %v", test.err, got, !test.conflict, test.outcome)
		}
		err := wrap(t.Context(), test.err)
		permanent := test.is == driver.ErrFull || test.is == driver.ErrTooLarge || test.is == driver.ErrPermission //nolint:errorlint // the very error
		if !errors.Is(err, test.err) || test.is != nil && !errors.Is(err, test.is) || driver.IsPermanent(err) != permanent {
			t.Errorf("%v became %v; want %v", test.err, err, test.is)
		}
		if err := wrap(over, test.err); !errors.Is(err, context.Canceled) {
			t.Errorf("%v under a ctx that is over became %v", test.err, err)
		}
	}
	if err := wrap(t.Context(), nil); err != nil {
		t.Errorf("nothing became %v", err)
	}
}

func TestEntries(t *testing.T) {
	header := func(pairs ...string) nats.Header {
		h := nats.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	for _, test := range []struct {
		header nats.Header
		value  []byte
		exists bool
		write  uint64
	}{
		{header(headerWrite, "ff"), []byte("v"), true, 255},
		{header(), nil, true, 0},
		{nil, []byte("v"), true, 0},
		{header(headerWrite, "odd"), []byte("v"), true, 0},
		{header(headerOperation, "PUT"), []byte("v"), true, 0},
		{header(headerOperation, "DEL", headerWrite, "1"), []byte("v"), false, 1},
		{header(headerOperation, "PURGE"), nil, false, 0},
		{header(headerReason, "MaxAge"), nil, false, 0},
	} {
		e := entry("k", 7, test.header, test.value, 3)
		if e.Exists() != test.exists || e.Key != "k" || e.Generation != 3 || string(e.Value) != map[bool]string{true: string(test.value)}[test.exists] || (e.Value != nil) != test.exists {
			t.Errorf("%v: %+v", test.header, e)
		}
		if expected(e) != 7 {
			t.Errorf("%v: a write of it expects %d, want 7", test.header, expected(e))
		}
		for id, want := range map[uint64]driver.Outcome{test.write: driver.Applied, test.write + 1: driver.Unknown} {
			if got := (&store{}).Resolve(driver.Swap{ID: id}, e); got != want {
				t.Errorf("%v: the write %d is %v, want %v", test.header, id, got, want)
			}
		}
	}
	if n := expected(driver.Entry{Key: "k"}); n != 0 {
		t.Errorf("a write of what nobody has written expects %d", n)
	}
	if got := (&store{}).Resolve(driver.Swap{}, driver.Entry{}); got != driver.Unknown {
		t.Errorf("of a key without a message: %v", got)
	}
}
