package kit

import (
	"context"
	"errors"
	"fmt"
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
