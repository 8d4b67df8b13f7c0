package postgres

import (
	"context"
	"errors"
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

// isLogin reports whether err is of the class of refused logins.
func isLogin(err error) bool { return strings.HasPrefix(state(err), "28") }

// wrap gives err, the end of a call that ran under ctx, a form that the engine can
// match.
func (s *store) wrap(ctx context.Context, err error) error {
	if err != nil && s.open.Err() != nil {
		return driver.ErrClosed
	}
	var class error
	switch code := state(err); {
	case code == insufficientPrivilege, isLogin(err):
		class = driver.ErrPermission
	case code == diskFull, code == programLimit:
		class = driver.ErrFull
	case code == undefinedTable:
		s.pool.Reset() // another connection may make it
	}
	return kit.Wrap(ctx, err, class)
}
