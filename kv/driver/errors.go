package driver

import (
	"errors"
	"slices"
)

// Sentinel errors that a driver returns, wrapped or not. Package kv exports
// the same values under the same names. An error that matches one of them is
// not retried, except ErrSnapshotLost, which makes the engine start a scan
// again, and those that end a watch session, which is always restarted.
var (
	// ErrPermission: the store knows the caller and refuses, or does not
	// accept its credentials.
	ErrPermission = errors.New("permission denied")

	// ErrTooLarge: the key or value is over a limit of the store.
	ErrTooLarge = errors.New("too large")

	// ErrFull: the store has no room for what would be written. Reads and
	// removals may still work.
	ErrFull = errors.New("the store is full")

	// ErrFenced: a guard does not hold.
	ErrFenced = errors.New("fenced: a guard does not hold")

	// ErrLeaseLost: the lease is over; nothing was written.
	ErrLeaseLost = errors.New("the lease is over")

	// ErrNotSupported: this store can't do that.
	ErrNotSupported = errors.New("not supported")

	// ErrClosed: the store's handle is closed.
	ErrClosed = errors.New("closed")

	// ErrSnapshotLost: the moment that the earlier pages of a scan showed is
	// no longer readable.
	ErrSnapshotLost = errors.New("snapshot no longer available")
)

type permanent struct{ err error }

func (p permanent) Error() string { return p.err.Error() }
func (p permanent) Unwrap() error { return p.err }

// Permanent marks err as one that trying again won't cure, such as a server
// certificate that does not verify. It returns nil for nil. The message and
// the chain of err stay as they are.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether the engine gives up on err at once: it matches
// a sentinel of this package other than ErrSnapshotLost, or was marked with
// Permanent.
func IsPermanent(err error) bool {
	final := []error{ErrPermission, ErrTooLarge, ErrFull, ErrFenced, ErrLeaseLost, ErrNotSupported, ErrClosed}
	return errors.As(err, &permanent{}) || slices.ContainsFunc(final, func(s error) bool { return errors.Is(err, s) })
}
