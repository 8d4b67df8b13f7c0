package metrics

import (
	"context"
	"errors"

	"github.com/polykv/polykv/kv"
)

const (
	reasonCanceled = "canceled"
	reasonDeadline = "deadline"
)

// reason is the label for an error. Of an error that matches several, the one
// that decides what the caller has to do comes first: a write of unknown
// outcome matters more than the context that ended it.
func reason(err error) string {
	switch {
	case errors.Is(err, kv.ErrIndeterminate):
		return "indeterminate"
	case errors.Is(err, kv.ErrClosed):
		return "closed"
	case errors.Is(err, kv.ErrFenced):
		return "fenced"
	case errors.Is(err, kv.ErrConflict):
		return "conflict"
	case errors.Is(err, kv.ErrInvalidKey):
		return "invalid_key"
	case errors.Is(err, kv.ErrTooLarge):
		return "too_large"
	case errors.Is(err, kv.ErrFull):
		return "full"
	case errors.Is(err, kv.ErrPermission):
		return "permission"
	case errors.Is(err, kv.ErrNotSupported):
		return "not_supported"
	case errors.Is(err, kv.ErrUnavailable):
		return "unavailable"
	case errors.Is(err, context.Canceled):
		return reasonCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return reasonDeadline
	default:
		return "other"
	}
}
