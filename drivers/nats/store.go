package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// store is one client's handle on a bucket.
type store struct {
	cfg       Config
	stream    string // of the bucket
	api       string // what the subjects of JetStream's requests begin with
	subjects  subjects
	addresses []kit.Address
	tls       *config.Renewing // nil: none
	password  *kit.Secret
	history   *kit.History

	batch    chan struct{} // holds a value while a write with guards is under way
	links    *kit.Shared[*link]
	conn     *nats.Conn // of the last link; nil before the first one
	refusals sync.Map   // of requests under way: *context.CancelCauseFunc to what a refusal says
}

var (
	_ driver.Store    = (*store)(nil)
	_ driver.Resolver = (*store)(nil)
	_ driver.Epocher  = (*store)(nil)
)

// Open returns a handle on a bucket for one client. It contacts no server. log
// may be nil.
func Open(cfg Config, log *slog.Logger) (driver.Store, error) {
	servers, tls, err := cfg.check()
	if err != nil {
		return nil, err
	}
	s := &store{
		cfg: cfg, stream: "KV_" + cfg.Bucket, api: "$JS.API.", subjects: subjects("$KV." + cfg.Bucket + "."),
		password:  kit.NewSecret(cfg.Password, cfg.PasswordFile, "the file with the password of NATS can't be read; the last one stays in use", log),
		addresses: servers, tls: tls, history: kit.NewHistory(), batch: make(chan struct{}, 1),
	}
	if cfg.Domain != "" {
		s.api = "$JS." + cfg.Domain + ".API."
	}
	s.links = kit.NewShared(s.open, (*link).alive)
	return s, nil
}

// Get implements driver.Store.
func (s *store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	l, err := s.links.Get(ctx)
	if err != nil {
		return driver.Entry{}, wrap(ctx, err)
	}
	e, err := s.read(ctx, l, req.Key)
	if err == nil {
		err = s.check(ctx, l, req.Guards)
	}
	return e, wrap(ctx, err)
}

// read returns the last state of a key.
func (s *store) read(ctx context.Context, l *link, key string) (driver.Entry, error) {
	m := s.history.Mark()
	msg, err := s.last(ctx, l, s.subjects.of(key))
	if err != nil || msg == nil {
		return driver.Entry{Key: key, Meta: meta{}, Generation: m.Gen}, err
	}
	gen, err := s.history.Observe(m, kit.Answer{Index: msg.Sequence})
	return entry(key, msg.Sequence, msg.Header, msg.Data, gen), err
}

// last returns the last message that matches a filter of subjects, nil if there
// is none.
func (s *store) last(ctx context.Context, l *link, filter string) (*jetstream.RawStreamMsg, error) {
	msg, err := ask(ctx, s, s.api+"STREAM.MSG.GET."+s.stream+`"`, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return l.stream.GetLastMsgForSubject(ctx, filter)
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return msg, err
}

// list returns the subjects that match a filter and have a message. It asks by a handle
// of its own, since the library keeps the answer there.
func (s *store) list(ctx context.Context, l *link, filter string) (map[string]uint64, error) {
	info, err := ask(ctx, s, s.api+"STREAM.INFO."+s.stream+`"`, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		stream, err := l.js.Stream(ctx, s.stream)
		if err != nil {
			return nil, err
		}
		return stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	})
	if err != nil {
		return nil, err
	}
	return info.State.Subjects, nil
}

// Swap implements driver.Store.
func (s *store) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	l, err := s.links.Get(ctx)
	if err == nil && len(w.Guards) > 0 && !l.atomic {
		err = fmt.Errorf("%w: guards need a bucket whose stream has allow_atomic set, and nats-server 2.12", driver.ErrNotSupported)
	}
	if err != nil {
		return driver.Result{Outcome: driver.NotApplied}, wrap(ctx, err)
	}
	if len(w.Guards) > 0 {
		free, err := s.turn(ctx)
		if err != nil {
			return driver.Result{Outcome: driver.NotApplied}, err
		}
		defer free()
	}
	if _, known := w.Prev.Meta.(meta); w.Prev.Exists() || known {
		return s.swap(ctx, l, w)
	}
	// Where a key was removed, the message has to follow the marker; but not what exists.
	now, err := s.read(ctx, l, w.Key)
	switch {
	case err != nil:
		return driver.Result{Outcome: driver.NotApplied}, wrap(ctx, err)
	case now.Exists() && len(w.Guards) == 0:
		return driver.Result{Outcome: driver.Conflict, Entry: now, Known: true}, nil
	case !now.Exists():
		w.Prev.Meta = now.Meta
	}
	return s.swap(ctx, l, w)
}

// turn waits until a write with guards may be sent. The server takes some files and
// milliseconds for each, one after another: better wait here, with nothing sent, and
// no longer than half of what ctx leaves, so that there is time for the answer.
func (s *store) turn(ctx context.Context) (free func(), err error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	select {
	case s.batch <- struct{}{}:
		return func() { <-s.batch }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("too many writes with guards: %w", ctx.Err())
	}
}

func (s *store) swap(ctx context.Context, l *link, w driver.Swap) (driver.Result, error) {
	m := s.history.Mark()
	if w.Prev.Generation != 0 && w.Prev.Generation != m.Gen {
		return driver.Result{Outcome: driver.Conflict}, nil // versions of another history
	}
	msg := s.message(l, w)
	ack, err := ask(ctx, s, msg.Subject+`"`, func(ctx context.Context) (*jetstream.PubAck, error) {
		if err := s.guard(l, msg, w.Guards); err != nil {
			return nil, err
		}
		return l.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0)) // it would repeat it where nobody listened
	})
	switch o := outcome(err); {
	case err == nil:
	case o == driver.Conflict && len(w.Guards) == 0 && w.Prev.Exists():
		return driver.Result{Outcome: driver.Conflict}, nil
	case isConflict(err):
		return s.judge(ctx, l, w, err)
	default:
		return driver.Result{Outcome: o}, wrap(ctx, err)
	}
	gen, err := s.history.Observe(m, kit.Answer{Index: ack.Sequence, Evidence: kit.Written})
	if err != nil {
		return driver.Result{Outcome: driver.Applied}, nil
	}
	return driver.Result{Outcome: driver.Applied, Entry: entry(w.Key, ack.Sequence, msg.Header, w.Value, gen), Known: true}, nil
}

// judge tells what became of a write that was refused since something is not as
// expected, where that may be a guard, a marker that was replaced, or another write
// that is under way.
func (s *store) judge(ctx context.Context, l *link, w driver.Swap, refused error) (driver.Result, error) {
	var now driver.Entry
	err := s.check(ctx, l, w.Guards)
	if err == nil {
		now, err = s.read(ctx, l, w.Key)
	}
	switch {
	case errors.Is(err, driver.ErrFenced):
		return driver.Result{Outcome: driver.GuardBroken}, nil
	case err != nil:
		return driver.Result{Outcome: driver.NotApplied}, wrap(ctx, err)
	case now.Version != w.Prev.Version:
		return driver.Result{Outcome: driver.Conflict, Entry: now, Known: true}, nil
	case expected(now) != expected(w.Prev):
		w.Prev.Meta = now.Meta // removed again; nothing was written, so this is no repetition
		return s.swap(ctx, l, w)
	}
	return driver.Result{Outcome: driver.NotApplied}, wrap(ctx, refused)
}

// message returns what is to be published for w.
func (s *store) message(l *link, w driver.Swap) *nats.Msg {
	msg := nats.NewMsg(s.subjects.of(w.Key))
	msg.Data = w.Value
	msg.Header.Set(headerExpected, strconv.FormatUint(expected(w.Prev), 10))
	msg.Header.Set(headerWrite, strconv.FormatUint(w.ID, 16))
	switch {
	case !w.Remove:
	case l.rollup && s.cfg.MarkerTTL > 0:
		msg.Header.Set(headerOperation, "PURGE")
		msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
		msg.Header.Set(jetstream.MsgTTLHeader, s.cfg.MarkerTTL.String())
	default:
		msg.Header.Set(headerOperation, "DEL")
	}
	return msg
}

// Limits implements driver.Store.
func (s *store) Limits() driver.Limits {
	value := s.cfg.MaxPayload - headerRoom
	return driver.Limits{Key: maxKey, Value: value, GuardedValue: value, Guards: maxGuards}
}

// maxKey is the longest key that package kv allows (rule K1), in bytes. With
// each of them escaped it is a subject that a server with defaults takes.
const maxKey = 512

// Epoch implements driver.Epocher.
func (s *store) Epoch() uint64 { return s.history.Epoch() }

// Close implements driver.Store.
func (s *store) Close() error {
	s.links.Close()
	s.conn.Close() // none is none to close
	return nil
}
