package nats

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/kv/driver/kit"
)

// link is a connection and the bucket at its other end.
type link struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream

	rollup bool // a marker takes the place of all before it, and may expire
	atomic bool // several messages may be written as one
	found  time.Time
}

// lookAgain is after how long the bucket is looked for again: nobody is told that it was
// deleted, and sequences of one that was made again mean something else.
const lookAgain = 5 * time.Second

func (l *link) alive() bool { return !l.conn.IsClosed() && time.Since(l.found) < lookAgain }

// open opens the link. A connection over which the bucket was not found is kept for
// the next attempt.
func (s *store) open(ctx context.Context) (l *link, err error) {
	if s.conn == nil || s.conn.IsClosed() {
		if s.conn, err = s.dial(ctx); err != nil {
			return nil, err
		}
	}
	return s.attach(ctx, s.conn)
}

// dial connects to one of the servers. The library doesn't reconnect by itself:
// each connection is an epoch, and what was under way on one fails with it.
func (s *store) dial(ctx context.Context) (*nats.Conn, error) {
	servers, err := s.servers(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := kit.Use(s.password, isPermission, func(password string) (*nats.Conn, error) {
		o, err := s.options(ctx, servers, password)
		if err != nil {
			return nil, err
		}
		return o.Connect()
	})
	if err == nil {
		s.history.Connected()
	}
	return conn, err
}

// servers returns the servers' URLs, those of service records looked up.
func (s *store) servers(ctx context.Context) (urls []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	for _, a := range s.addresses {
		_, targets, err := a.Targets(ctx)
		if err != nil {
			return nil, err
		}
		for _, target := range targets {
			urls = append(urls, (&url.URL{Scheme: "nats", Host: target}).String())
		}
	}
	return urls, nil
}

func (s *store) options(ctx context.Context, servers []string, password string) (o nats.Options, err error) {
	o = nats.Options{
		Servers: servers, Name: "polykv", Timeout: s.cfg.DialTimeout, FlusherTimeout: s.cfg.DialTimeout,
		PingInterval: s.cfg.PingInterval, MaxPingsOut: 2, SkipHostLookup: true,
		CustomDialer: dialer(func(network, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: s.cfg.DialTimeout}
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return kit.Tied(ctx, conn), nil
		}),
		AsyncErrorCB: func(conn *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) && s.refused(err) {
				conn.Close() // the library would wait on it for answers, and not be refused again
			}
		},
		PermissionErrOnSubscribe: true,
	}
	switch {
	case s.cfg.CredentialsFile != "":
		err = nats.UserCredentials(s.cfg.CredentialsFile)(&o) // else the connection would be anybody's
	case s.cfg.Username != "":
		o.User, o.Password = s.cfg.Username, password
	default:
		o.Token = password
	}
	if s.tls != nil {
		o.Secure, o.TLSConfig = true, s.tls.For("") // the library fills in the host
	}
	return o, err
}

type dialer func(network, address string) (net.Conn, error)

// Dial implements nats.CustomDialer.
func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

// attach finds the bucket, or makes it. What the servers tell of its stream shows
// whether it is the one that was there before, and not set back.
func (s *store) attach(ctx context.Context, conn *nats.Conn) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	mark := s.history.Mark()
	js, err := jetstream.New(conn)
	if s.cfg.Domain != "" {
		js, err = jetstream.NewWithDomain(conn, s.cfg.Domain)
	}
	if err != nil {
		return nil, err
	}
	stream, err := ask(ctx, s, s.api+"STREAM.INFO."+s.stream+`"`, func(ctx context.Context) (jetstream.Stream, error) {
		stream, err := js.Stream(ctx, s.stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) && s.cfg.Create {
			stream, err = js.CreateStream(ctx, s.newStream())
		}
		return stream, err
	})
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	_, err = s.history.Observe(mark, kit.Answer{
		Index: info.State.LastSeq, Evidence: kit.Current, Cluster: uint64(info.Created.UnixNano()),
	})
	l := &link{conn, js, stream, info.Config.AllowMsgTTL && info.Config.MaxMsgsPerSubject == 1, info.Config.AllowAtomicPublish, time.Now()}
	// This is where the library looks before it reads a message: by default any
	// replica may answer, and here only the leader.
	info.Config.AllowDirect = false
	return l, err
}

// newStream is what the command nats kv makes of a bucket, and lets messages
// expire and be written together, where the server can.
func (s *store) newStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: s.stream, Subjects: []string{string(s.subjects) + ">"}, Description: "polykv",
		Replicas: s.cfg.Replicas, Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew,
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1,
		AllowRollup: true, DenyDelete: true, AllowDirect: true, AllowMsgTTL: true, AllowAtomicPublish: true,
	}
}

// setupTimeout bounds requests that are made for no call of limited time.
const setupTimeout = 5 * time.Second

// ask returns what f returns, which publishes to a subject, or to one that begins so
// if there is no quote at its end. It ends with ctx, and when the server says that the
// caller may not publish there: it tells the connection, and not the request.
func ask[R any](ctx context.Context, s *store, subject string, f func(context.Context) (R, error)) (answer R, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.refusals.Store(&cancel, `Publish to "`+subject)
	defer s.refusals.Delete(&cancel)
	answer, err = kit.Call(ctx, s.links, func() (R, error) { return f(ctx) })
	switch {
	case err != nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		s.links.Drop() // the bucket has to be looked for again
	}
	return answer, err
}

// refused ends the requests that err may be about: those to the subject, whose domain
// the domain's own server leaves out, or all if the caller may not listen to answers.
func (s *store) refused(err error) (deaf bool) {
	text := strings.Replace(err.Error(), `"$JS.API.`, `"`+s.api, 1)
	deaf = strings.Contains(text, "Subscription to")
	s.refusals.Range(func(cancel, publish any) bool {
		switch {
		case strings.Contains(text, publish.(string)):
			(*cancel.(*context.CancelCauseFunc))(refusal{err})
		case deaf:
			(*cancel.(*context.CancelCauseFunc))(err)
		}
		return true
	})
	return deaf
}
