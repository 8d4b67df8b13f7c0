package kit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polykv/polykv/kv/driver"
)

// JoinContext gives err, the end of a call, the error of its ctx too, unless it
// has that already, or says no more than that, as a status of gRPC does.
func JoinContext(ctxErr, err error) error {
	switch {
	case errors.Is(err, ctxErr):
		return err
	case err.Error() == ctxErr.Error():
		return ctxErr
	}
	return fmt.Errorf("%w: %w", ctxErr, err)
}

// Wrap gives err, the end of a call that ran under ctx, a form that the engine can
// match: the error of ctx, class if that isn't nil (a sentinel of package driver), or
// driver.Permanent for a refused certificate.
func Wrap(ctx context.Context, err, class error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return JoinContext(ctx.Err(), err)
	case class != nil:
		return fmt.Errorf("%w: %w", class, err)
	case RefusedCertificate(err):
		return driver.Permanent(err)
	}
	return err
}

// IsAny reports whether err matches one of targets.
func IsAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}

// Until returns a ctx that also ends when the driver's is done.
func Until(ctx, of context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(of, cancel)
	return ctx, func() { stop(); cancel() }
}

// NoRoom reports whether the text of an error is, or quotes, that of a system
// call that found no room on a disk, as Unix and Windows say it.
func NoRoom(text string) bool {
	return slices.ContainsFunc([]string{"no space left on device", "disk quota exceeded", "not enough space on the disk"},
		func(says string) bool { return strings.Contains(text, says) })
}
