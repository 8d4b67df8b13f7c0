package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// refusals are the answers that prove that a transaction was not applied and
// won't be, by where etcd 3.7 makes them (paths below go.etcd.io/etcd/server).
// Answers missing here on purpose: "database space exceeded", see whenFull, and
// every timeout, "leader changed" and "server stopped", because the proposal
// may still be committed.
var refusals = []error{
	// Interceptor, before the request is handled (etcdserver/api/v3rpc/interceptor.go).
	rpctypes.ErrNoLeader,
	rpctypes.ErrNotCapable,
	// Before the proposal (EtcdServer.processInternalRaftRequestOnce).
	rpctypes.ErrTooManyRequests,
	rpctypes.ErrInvalidAuthToken,
	rpctypes.ErrRequestTooLarge,
	// By the auth applier, which checks the whole transaction before it runs
	// any of it (etcdserver/apply/auth.go).
	rpctypes.ErrUserEmpty,
	rpctypes.ErrAuthOldRevision,
	rpctypes.ErrPermissionDenied,
	// By the applier that stands in for the others while the corruption alarm
	// is raised (etcdserver/apply/corrupt.go).
	rpctypes.ErrCorrupt,
}

const (
	// A learner's interceptor (etcdserver/api/v3rpc/interceptor.go). Package
	// rpctypes has no client-side twin for it, and 3.5 another name.
	notForLearners = "etcdserver: rpc not supported for learner"

	// Raft on the member that got the request dropped it before it entered
	// the log (go.etcd.io/raft, ErrProposalDropped); etcd passes the text on.
	dropped = "raft proposal dropped"

	// gRPC on the server refused to read the request: --max-request-bytes and
	// 512 KiB on top. The client's own limit, which has the same text, is out
	// of reach: see callOptions.
	unread = "grpc: received message larger than max"

	// CheckPassword's words for a user without a password, which have no
	// error of their own.
	noPassword = "auth: authentication failed"
)

// notApplied reports whether err, the end of a transaction that was sent,
// proves that it was not applied and won't be.
func notApplied(err error) bool {
	if errors.As(err, new(loginError)) {
		return true
	}
	desc := rpctypes.ErrorDesc(err)
	return kit.IsAny(rpctypes.Error(err), refusals...) || desc == notForLearners || desc == dropped || strings.HasPrefix(desc, unread)
}

// wrap gives err, the end of a call that ran under ctx, a form the engine can
// match: a sentinel where one fits, the error of ctx, and the cause.
func (s *store) wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if s.base.Err() != nil {
		return driver.ErrClosed
	}
	err = plain(err)
	switch code := status.Code(errors.Unwrap(err)); {
	case isPermission(err, s.logins.user != ""):
		return fmt.Errorf("%w: %w", driver.ErrPermission, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), strings.HasPrefix(err.Error(), unread):
		return fmt.Errorf("%w: %w", driver.ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %w; it takes writes again once it was compacted and defragmented, and its alarm was disarmed", driver.ErrFull, err)
	case ctx.Err() != nil:
		return kit.JoinContext(ctx.Err(), err)
	case code == codes.DeadlineExceeded: // the server's clock was quicker
		return kit.JoinContext(context.DeadlineExceeded, err)
	case code == codes.Unavailable:
		s.history.Connected() // the server may have lost the others
		if refused := s.refused.behind(err.Error()); refused != nil {
			return driver.Permanent(refused)
		}
		return fmt.Errorf("%s: %w", strings.Join(s.endpoints(), ", "), err)
	}
	return err
}

// A token that is still refused after a new login is not among these: the
// server may have been restarted in between.
func isPermission(err error, loggedIn bool) bool {
	return kit.IsAny(err, rpctypes.ErrPermissionDenied, rpctypes.ErrAuthFailed) ||
		(!loggedIn && errors.Is(err, rpctypes.ErrUserEmpty)) ||
		strings.Contains(err.Error(), noPassword)
}

// plain turns etcd's own errors into those that package rpctypes exports, and
// leaves "rpc error: code = ..." out of the text of others.
func plain(err error) error {
	var login loginError
	if errors.As(err, &login) {
		return loginError{login.user, plain(login.err)}
	}
	err = rpctypes.Error(err)
	if _, ok := status.FromError(err); ok {
		return rpcError{err}
	}
	return err
}

// rpcError is a failure of gRPC itself, such as a refused connection.
type rpcError struct{ err error }

// Error undoes gRPC's wrapping of the text, which quotes the reason.
func (e rpcError) Error() string {
	desc := rpctypes.ErrorDesc(e.err)
	if quoted, ok := strings.CutPrefix(desc, "connection error: desc = "); ok {
		if text, err := strconv.Unquote(quoted); err == nil {
			desc = text
		}
	}
	return strings.TrimPrefix(desc, "transport: ")
}
func (e rpcError) Unwrap() error { return e.err }
