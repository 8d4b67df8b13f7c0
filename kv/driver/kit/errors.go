package kit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// JoinContext gives err, the end of a call, the error of its ctx too, unless it
// has that already.
func JoinContext(ctxErr, err error) error {
	if errors.Is(err, ctxErr) {
		return err
	}
	return fmt.Errorf("%w: %w", ctxErr, err)
}

// Until returns a ctx that also ends when the driver's is done.
func Until(ctx, driver context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(driver, cancel)
	return ctx, func() { stop(); cancel() }
}

// NoRoom reports whether the text of an error is, or quotes, that of a system
// call that found no room on a disk, as Unix and Windows say it.
func NoRoom(text string) bool {
	return slices.ContainsFunc([]string{"no space left on device", "disk quota exceeded", "not enough space on the disk"},
		func(says string) bool { return strings.Contains(text, says) })
}
