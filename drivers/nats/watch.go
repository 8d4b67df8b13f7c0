package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

const (
	heartbeat = 5 * time.Second // of a session in which nothing happens
	silence   = 3 * heartbeat   // after so long without one the session is lost
)

var (
	errSilent = errors.New("the server sends no heartbeats any more")
	errGap    = errors.New("messages were lost on the way")
)

// session is a consumer of messages: the last one of each subject, in their
// order, and then all that follow.
type session struct {
	*store
	link     *link
	rng      driver.Range
	mark     kit.Mark
	sub      *nats.Subscription
	consumer string

	received uint64 // messages so far
	last     uint64 // sequence of the last one
	pending  uint64 // messages that the server had to send then, by its estimate

	snapshot map[string]driver.Entry // last state of each key, until it was emitted
	target   uint64                  // sequence of the leader's last message of the range
	aimed    int                     // how often the target was moved for the snapshot
}

// begin begins a session.
func (ss *session) begin(ctx context.Context, keysOnly bool) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	_, err := ask(ctx, ss.store, ss.api+"CONSUMER.CREATE."+ss.stream+".", func(ctx context.Context) (none struct{}, err error) {
		inbox := ss.link.conn.NewInbox()
		if ss.sub, err = ss.link.conn.SubscribeSync(inbox); err != nil {
			return none, err
		}
		_ = ss.sub.SetPendingLimits(-1, -1) // it is the consumer's flow control that limits them
		c, err := ss.link.js.CreatePushConsumer(ctx, ss.stream, jetstream.ConsumerConfig{
			DeliverSubject: inbox, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: ss.subjects.filter(ss.rng),
			AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1, HeadersOnly: keysOnly,
			FlowControl: true, IdleHeartbeat: heartbeat, InactiveThreshold: silence,
		})
		if err != nil {
			_ = ss.sub.Unsubscribe()
			return none, err
		}
		ss.consumer, ss.pending = c.CachedInfo().Name, c.CachedInfo().NumPending
		return none, nil
	})
	return err
}

// aim sets the target.
func (ss *session) aim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	msg, err := ss.store.last(ctx, ss.link, ss.subjects.filter(ss.rng))
	ss.target = 0
	if msg != nil {
		ss.target = msg.Sequence
	}
	return err
}

// complete reports whether the snapshot has every key. That the server has nothing to
// send doesn't say so: its consumer may be at a replica that lags, and of a key that is
// written again the old message may be gone, while the new one is not counted yet. What
// says so is that the leader has nothing later. Where something always is, since the
// range is written faster than the leader answers, each of its keys must have come.
func (ss *session) complete(ctx context.Context) (bool, error) {
	if ss.snapshot == nil || ss.pending > 0 || ss.last < ss.target {
		return false, nil
	}
	if err := ss.aim(ctx); err != nil || ss.last >= ss.target {
		return err == nil, err
	}
	if ss.aimed++; ss.aimed < 3 {
		return false, nil
	}
	subjects, err := ss.store.list(ctx, ss.link, ss.subjects.filter(ss.rng))
	for subject := range subjects {
		key, ok := ss.subjects.key(subject)
		if _, came := ss.snapshot[key]; ok && !came && ss.rng.Contains(key) {
			return false, nil
		}
	}
	return err == nil, err
}

// end ends the session. The server forgets a consumer that nobody listens to
// after a while; it is told, but not waited for.
func (ss *session) end(ctx context.Context) {
	_, _ = kit.Call(ctx, ss.links, func() (none struct{}, _ error) {
		_ = ss.sub.Unsubscribe()
		return none, ss.link.conn.Publish(ss.api+"CONSUMER.DELETE."+ss.stream+"."+ss.consumer, nil)
	})
}

// run emits what there is, Synced, and what follows, until it fails.
func (ss *session) run(ctx context.Context, emit func(driver.Event)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	ss.snapshot = map[string]driver.Entry{}
	for {
		if complete, err := ss.complete(ctx); err != nil {
			return err
		} else if complete {
			for _, key := range slices.Sorted(maps.Keys(ss.snapshot)) {
				if e := ss.snapshot[key]; e.Exists() {
					emit(e.Event())
				}
			}
			emit(driver.Event{Type: driver.Synced})
			ss.snapshot = nil
		}
		msg, err := ss.sub.NextMsgWithContext(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		}
		watchdog.Reset(silence)
		e, ok, err := ss.handle(ctx, msg)
		switch {
		case err != nil:
			return err
		case !ok:
		case ss.snapshot == nil:
			emit(e.Event())
		default:
			ss.snapshot[e.Key] = e
		}
	}
}

// handle returns the entry that a message is, if it is one of the range.
func (ss *session) handle(ctx context.Context, msg *nats.Msg) (e driver.Entry, ok bool, err error) {
	if status := msg.Header.Get("Status"); status != "" {
		return e, false, ss.control(ctx, msg, status)
	}
	meta, err := msg.Metadata()
	if err != nil {
		return e, false, err
	}
	if ss.received++; meta.Sequence.Consumer != ss.received {
		return e, false, errGap
	}
	ss.last, ss.pending = meta.Sequence.Stream, meta.NumPending
	gen, err := ss.history.Observe(ss.mark, kit.Answer{Index: ss.last})
	key, ok := ss.subjects.key(msg.Subject)
	return entry(key, ss.last, msg.Header, msg.Data, gen), ok && ss.rng.Contains(key), err
}

// control handles a message of the server's own.
func (ss *session) control(ctx context.Context, msg *nats.Msg, status string) error {
	if status != "100" {
		return fmt.Errorf("the server ended the session: %s %s", status, msg.Header.Get("Description"))
	}
	if msg.Reply != "" { // flow control
		return msg.Respond(nil)
	}
	if stalled := msg.Header.Get("Nats-Consumer-Stalled"); stalled != "" {
		return ss.link.conn.Publish(stalled, nil)
	}
	// A heartbeat says that there is nothing to send.
	if msg.Header.Get("Nats-Last-Consumer") != strconv.FormatUint(ss.received, 10) {
		return errGap
	}
	select {
	case <-ss.mark.Ended:
		return kit.ErrHistoryChanged
	default:
	}
	if ss.pending = 0; ss.last < ss.target {
		return ss.aim(ctx) // what was aimed at may have been purged
	}
	return nil
}

// errSynced ends the session of a Scan.
var errSynced = errors.New("all is there")

// Scan implements driver.Store. A listing is one page, mostly of one moment: see complete.
func (s *store) Scan(ctx context.Context, req driver.ScanRequest) (page driver.Page, err error) {
	scan, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	page.Generation = s.history.Mark().Gen
	r := driver.Range{Key: req.Prefix, IsPrefix: true}
	err = s.session(scan, r, req.KeysOnly, nil, func(ev driver.Event) {
		switch {
		case ev.Type == driver.Synced:
			cancel(errSynced)
		case ev.Type == driver.Put && ev.Entry.Key > req.After:
			if req.KeysOnly {
				ev.Entry.Value = nil
			}
			page.Entries, page.Generation = append(page.Entries, ev.Entry), ev.Entry.Generation
		}
	})
	if errors.Is(err, errSynced) {
		return page, nil
	}
	return driver.Page{}, err
}

// Watch implements driver.Store. The consumer that sends the snapshot goes on
// with the changes, so there is no gap.
func (s *store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	return s.session(ctx, req.Range, false, req.BeforeSnapshot, emit)
}

func (s *store) session(ctx context.Context, r driver.Range, keysOnly bool, before func(context.Context) error, emit func(driver.Event)) error {
	l, err := s.links.Get(ctx)
	if err == nil && before != nil {
		err = before(ctx)
	}
	if err != nil {
		return wrap(ctx, err)
	}
	ss := &session{store: s, link: l, rng: r, mark: s.history.Mark()}
	if err = ss.begin(ctx, keysOnly); err == nil {
		defer ss.end(ctx)
		err = ss.run(ctx, emit)
	}
	return wrap(ctx, err)
}
