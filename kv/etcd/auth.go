package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/polykv/polykv/kv/driver/kit"
)

// session is what calls present to the server. All calls of one session carry
// the same metadata, which is also what makes their watches share a stream.
type session struct {
	md      metadata.MD // requires a leader
	staleMD metadata.MD // does not: for serializable reads
}

func newSession(token string) *session {
	md := metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, version.APIVersion)
	if token != "" {
		md.Set(rpctypes.TokenFieldNameGRPC, token)
	}
	s := &session{md: md.Copy(), staleMD: md}
	s.md.Set(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	return s
}

// logins logs in with user and password when a call needs it, and again when
// the server no longer takes the token: etcd's simple tokens end five minutes
// after their last use and with a restart of the server. The etcd client does
// this too, but logs in while it is being opened.
type logins struct {
	client   pb.AuthClient
	opts     []grpc.CallOption
	user     string
	password *kit.Secret

	ready func(ctx context.Context) error // returns when there are endpoints

	current atomic.Pointer[session]
	turn    chan struct{} // holds one value while a login runs
	tries   atomic.Uint64
	lastErr error // of the last login; owned by whoever has the turn
}

func newLogins(client pb.AuthClient, opts []grpc.CallOption, user string, password *kit.Secret) *logins {
	l := &logins{client: client, opts: opts, user: user, password: password, turn: make(chan struct{}, 1)}
	if user == "" {
		l.current.Store(newSession(""))
	}
	return l
}

// loginError is a failed login. The call that needed it was not sent, or was
// refused for its token before.
type loginError struct {
	user string
	err  error
}

func (e loginError) Error() string { return fmt.Sprintf("logging in as %q: %v", e.user, e.err) }
func (e loginError) Unwrap() error { return e.err }

// session returns the current session, or a new one if that is still refused.
// A call that waited for another's login shares its failure: a wrong password
// costs the server one bcrypt comparison, not one per waiting call.
func (l *logins) session(ctx context.Context, refused *session) (*session, error) {
	if s := l.current.Load(); s != nil && s != refused {
		return s, nil
	}
	seen := l.tries.Load()
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, loginError{l.user, ctx.Err()}
	}
	if s := l.current.Load(); s != nil && s != refused {
		return s, nil
	}
	if l.tries.Load() != seen && errors.Is(l.lastErr, rpctypes.ErrAuthFailed) {
		return nil, loginError{l.user, l.lastErr}
	}
	s, err := l.login(ctx)
	l.tries.Add(1)
	if l.lastErr = err; err != nil {
		return nil, loginError{l.user, err}
	}
	l.current.Store(s)
	return s, nil
}

func (l *logins) login(ctx context.Context) (*session, error) {
	ctx = metadata.NewOutgoingContext(ctx, newSession("").md)
	req := &pb.AuthenticateRequest{Name: l.user, Password: l.password.Current()}
	resp, err := l.client.Authenticate(ctx, req, l.opts...)
	if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthFailed) && l.password.Replaced(req.Password) {
		req.Password = l.password.Current()
		resp, err = l.client.Authenticate(ctx, req, l.opts...)
	}
	if err = rpctypes.Error(err); errors.Is(err, rpctypes.ErrAuthNotEnabled) {
		return newSession(""), nil // as the etcd client does
	}
	if err != nil {
		return nil, err
	}
	return newSession(resp.Token), nil
}

// call runs one request, and once more if the server refused its token: that
// is decided before a request has any effect (see refusals).
func call[R any](ctx context.Context, l *logins, stale bool, send func(ctx context.Context) (R, error)) (R, error) {
	var none R
	if err := l.ready(ctx); err != nil {
		return none, err
	}
	ses, err := l.session(ctx, nil)
	if err != nil {
		return none, err
	}
	resp, err := send(ses.outgoing(ctx, stale))
	if err == nil || l.user == "" || !tokenRefused(err) {
		return resp, err
	}
	if ses, err = l.session(ctx, ses); err != nil {
		return none, err
	}
	return send(ses.outgoing(ctx, stale))
}

// outgoing replaces the metadata that ctx may carry for other servers.
func (s *session) outgoing(ctx context.Context, stale bool) context.Context {
	if stale {
		return metadata.NewOutgoingContext(ctx, s.staleMD)
	}
	return metadata.NewOutgoingContext(ctx, s.md)
}

func tokenRefused(err error) bool {
	return kit.IsAny(rpctypes.Error(err), rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty)
}
