package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polykv/polykv/kv/driver"
)

// Sentinel errors, to be matched with errors.Is. Those that drivers return
// too are the same values as in package driver.
var (
	// ErrInvalidKey: the key or prefix breaks rule K1 or K3 of [Client].
	ErrInvalidKey = errors.New("invalid key")

	// ErrTooLarge: a key or value is over a size limit; nothing was written.
	ErrTooLarge = driver.ErrTooLarge

	// ErrFull: the store has no room left, such as an etcd over its quota or a
	// Consul whose disk is full, and nothing was written, unless the error is
	// ErrIndeterminate too. It is not retried: room is for its operator to make.
	// With etcd, reads and Delete work. A Consul server without room for its log
	// resigns: calls work again once one that has room leads, and end with
	// ErrUnavailable before.
	ErrFull = driver.ErrFull

	// ErrClosed: the client was closed, before the call or during it.
	ErrClosed = driver.ErrClosed

	// ErrIndeterminate: a write was sent and its outcome can't be learned. It
	// was applied once or not at all, or may still be applied once.
	ErrIndeterminate = errors.New("indeterminate: the write may or may not have been applied")

	// ErrConflict: others kept writing the key for Options.ContentionTimeout,
	// or a versioned swap found another version. Nothing was written.
	ErrConflict = errors.New("conflict")

	// ErrFenced: the guard of a guarded operation does not hold; nothing was
	// written.
	ErrFenced = driver.ErrFenced

	// ErrLeaseLost: a lease is over, or can't be renewed in time.
	ErrLeaseLost = driver.ErrLeaseLost

	// ErrPermission: the store refuses the caller.
	ErrPermission = driver.ErrPermission

	// ErrUnavailable: the store could not be reached or could not answer
	// within Options.RetryTimeout. Nothing was written.
	ErrUnavailable = errors.New("unavailable")

	// ErrMissed: a watch was compared with the store and found not to have been
	// told of a change. It is the Err of Interrupted, never that of a call; the
	// range is read anew.
	ErrMissed = errors.New("the store did not tell a watch of a change")

	// ErrNotSupported: this client or store can't do that.
	ErrNotSupported = driver.ErrNotSupported
)

// Error is the type of every error that a client returns.
type Error struct {
	Op      string // the operation: "CAS", "Get", ...
	Backend string // the name of the backend, "etcd" for example
	Key     string // the key or prefix; may be empty
	Err     error  // what went wrong; never nil
}

// Error returns a line such as `polykv: etcd: CAS "a/b": conflict`.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("polykv: ")
	if e.Backend != "" {
		b.WriteString(e.Backend + ": ")
	}
	b.WriteString(e.Op)
	if e.Key != "" {
		fmt.Fprintf(&b, " %q", e.Key)
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// because joins a sentinel with its cause into one line; both match.
func because(sentinel, cause error) error {
	if cause == nil || errors.Is(cause, sentinel) {
		if cause != nil {
			return cause
		}
		return sentinel
	}
	return fmt.Errorf("%w: %w", sentinel, cause)
}

// Reason is a word for an error, for metrics and traces: "indeterminate",
// "closed", "fenced", "conflict", "invalid_key", "too_large", "full",
// "permission", "not_supported", "missed", "unavailable", "canceled", "deadline"
// or "other". Of an error that matches several, the one that decides what the caller
// has to do comes first: a write of unknown outcome matters more than the context
// that ended it.
func Reason(err error) string {
	switch {
	case errors.Is(err, ErrIndeterminate):
		return "indeterminate"
	case errors.Is(err, ErrClosed):
		return "closed"
	case errors.Is(err, ErrFenced):
		return "fenced"
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrInvalidKey):
		return "invalid_key"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case errors.Is(err, ErrFull):
		return "full"
	case errors.Is(err, ErrPermission):
		return "permission"
	case errors.Is(err, ErrNotSupported):
		return "not_supported"
	case errors.Is(err, ErrMissed):
		return "missed"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline"
	default:
		return "other"
	}
}
