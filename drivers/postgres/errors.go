package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// outcome tells what became of a statement that was sent and ended with err. An
// ERROR aborts its transaction: the server has not begun to commit, since whatever
// fails in a commit is a PANIC. A FATAL error may follow a commit, in place of its
// answer.
func outcome(err error) driver.Outcome {
	var answer *pgconn.PgError
	if pgconn.SafeToRetry(err) || errors.As(err, &answer) && answer.SeverityUnlocalized == "ERROR" {
		return driver.NotApplied
	}
	return driver.Unknown
}

// wrap gives err, the end of a call that ran under ctx, a form that the engine can
// match.
func (s *store) wrap(ctx context.Context, err error) error {
	code := state(err)
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return driver.ErrClosed
	case ctx.Err() != nil:
		return kit.JoinContext(ctx.Err(), err)
	case code == insufficientPrivilege, strings.HasPrefix(code, "28"): // invalid authorization
		return fmt.Errorf("%w: %w", driver.ErrPermission, err)
	case code == diskFull:
		return fmt.Errorf("%w: %w", driver.ErrFull, err)
	case code == programLimit:
		return fmt.Errorf("%w: %w", driver.ErrTooLarge, err)
	case kit.RefusedCertificate(err):
		return driver.Permanent(err)
	}
	return err
}
