package coordination

import (
	"context"
	"iter"

	"github.com/polykv/polykv/kv"
)

// Election is one participant of an election: a [Lock] whose holder is the leader
// and says something of itself. Its methods may be called concurrently.
type Election struct{ session *session }

// Leader says who leads.
type Leader struct {
	ID    string // of its campaign
	Value string // what the leader said of itself
	Term  uint64 // counts the leaders
}

// NewElection returns the election with that name, under the rules of [NewLock].
func NewElection(c kv.Client, name string, opts Options) (*Election, error) {
	s, err := newSession(c, name, opts)
	if err != nil {
		return nil, err
	}
	return &Election{s}, nil
}

// Campaign waits until this participant leads, under the rules of [Lock.Lock],
// and returns its leadership. value tells others of the leader, an address for
// example; it is valid UTF-8. Leadership ends by Unlock, which resigns, and when [Held.Done] closes.
// A leader works under [Held.Context] and by [Held.Client].
func (e *Election) Campaign(ctx context.Context, value string) (*Held, error) {
	if err := checkText("the value", value); err != nil {
		return nil, e.session.fail("Campaign", err)
	}
	held, err := e.session.attempt(ctx, value, (*attempt).queued)
	return held, e.session.fail("Campaign", err)
}

// Leader returns who leads, linearizably; exists is false if nobody does. A leader
// that died a moment ago still counts, until somebody takes over.
func (e *Election) Leader(ctx context.Context) (leader Leader, exists bool, err error) {
	now, err := e.session.current(ctx)
	if err != nil {
		return Leader{}, false, e.session.fail("Leader", err)
	}
	return Leader(now.holder), now.ID != "", nil
}

// Observe follows who leads: the present leader first, then each change of it,
// the zero Leader when nobody leads. States in between may be left out while the
// loop's body is busy. An item with an error is the last one; it tells why the
// loop ends: ctx's error, or kv.ErrClosed.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Leader, error] {
	s := e.session
	return func(yield func(Leader, error) bool) {
		left, begun, last := false, false, Leader{}
		err := kv.Watch(ctx, s.client, kv.KeyRange(s.names.holder()), func(ev kv.Event) bool {
			now := last
			switch ev.Type {
			case kv.Put:
				record, err := decode[holder](ev.Key, ev.Value)
				if err != nil {
					s.opts.Logger.Warn("polykv: the record of an election can't be read", "name", s.name, "error", err)
					return !left
				}
				if now = Leader(record); now.ID == "" {
					now = Leader{}
				}
			case kv.Delete:
				now = Leader{}
			case kv.Synced: // and nothing before: there never was a leader
			default:
				return !left
			}
			if !left && (now != last || !begun) {
				begun, last = true, now
				left = !yield(now, nil)
			}
			return !left
		})
		if err != nil && !left {
			yield(Leader{}, e.session.fail("Observe", err))
		}
	}
}

// Close resigns, ends waiting calls with kv.ErrClosed, and releases what e needs.
// It is idempotent, and leaves the client open.
func (e *Election) Close() error { return e.session.close() }
