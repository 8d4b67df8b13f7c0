package multi

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Where a store is spread by gossip, what one client reads another one may not
// have yet. If each mirrored its own writes, they would undo each other's work,
// and what nodes write that are no clients of both stores would be mirrored by
// nobody. So one client, the owner, mirrors everything, as its watch of the
// primary tells. Two owners at a time do no lasting harm.

const (
	// ownerKey is where the owner says that it is there: in a store with real
	// compare-and-swap.
	ownerKey = kv.ReservedSegment + "/mirror"

	ownerBeats   = time.Second     // how often it does
	ownerTimeout = 3 * time.Second // of one attempt

	// ownerGone is how long its word may stay the same before another takes
	// its place. It stops by itself before that.
	ownerGone  = 10 * time.Second
	ownerYield = ownerGone / 2
)

// ownerRecord is what ownerKey holds.
type ownerRecord struct {
	Holder string `json:"holder"` // a random name
	Host   string `json:"host"`
	PID    int    `json:"pid"`
	Beat   uint64 `json:"beat"` // grows with every write of the holder
}

func (t ownerRecord) String() string {
	if t.Host == "" {
		return t.Holder
	}
	return fmt.Sprintf("%s (pid %d)", t.Host, t.PID)
}

// owner makes this client the owner, or has it wait to be, where a store is
// spread by gossip.
type owner struct {
	core  *core
	store *store // where the owner is agreed upon; nil: nowhere, so each client is one
	self  ownerRecord

	mu      sync.Mutex
	left    bool      // this client is closing
	seen    string    // what was last read, as it is stored
	holder  string    // who that is, for people
	since   time.Time // when it was first read, by this client's own clock
	renewed time.Time // when the last attempt began that found or made this client the owner
}

// newOwner returns nil if no store is spread by gossip.
func newOwner(c *core) *owner {
	if !c.stores[0].gossip && !c.stores[1].gossip {
		return nil
	}
	o := &owner{core: c, self: ownerRecord{Holder: side.NewID(), Host: side.Hostname(), PID: os.Getpid()}}
	for _, s := range c.stores {
		if !s.gossip && s.raw != nil {
			o.store = s
		}
	}
	return o
}

// run keeps up the claim to be the owner, and mirrors while it holds.
func (o *owner) run() {
	ctx := o.core.ctx
	if o.store == nil {
		o.follow(ctx)
		return
	}
	ticks := time.Tick(ownerBeats)
	stop := func() {}
	following := false
	for ctx.Err() == nil {
		o.claim(ctx)
		owns := o.owns()
		switch {
		case owns && !following:
			o.core.log.Info("polykv: this client mirrors from now on", "store", o.store.name)
			stop = o.begin(ctx)
		case !owns && following:
			o.core.log.Info("polykv: this client mirrors no more", "store", o.store.name)
			stop()
		}
		following = owns
		select {
		case <-ticks:
		case <-ctx.Done():
		}
	}
}

// begin follows the primary until the function that it returns is called.
func (o *owner) begin(ctx context.Context) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	o.core.start(func() { o.follow(ctx) })
	return stop
}

// claim takes or keeps the place of the owner, if nobody else has it.
func (o *owner) claim(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	began := time.Now()
	var now ownerRecord
	var text string
	mine := false
	err := o.store.side.CAS(ctx, ownerKey, nil, func(in []byte, exists bool) ([]byte, kv.Action, error) {
		now, text = ownerRecord{}, string(in)
		if exists && json.Unmarshal(in, &now) != nil {
			now = ownerRecord{Holder: "a client of another release"}
		}
		if mine = o.mayTake(now, text, exists); !mine {
			return nil, kv.Keep, nil
		}
		next := o.self
		next.Beat = now.Beat + 1
		out, err := json.Marshal(next)
		return out, kv.Put, err
	})
	if err == nil {
		o.saw(now, text, mine, began)
	}
}

// mayTake reports whether the place of now is this client's, or free.
func (o *owner) mayTake(now ownerRecord, text string, exists bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.left && (!exists || now.Holder == o.self.Holder || text == o.seen && time.Since(o.since) > ownerGone)
}

// saw takes in how an attempt ended.
func (o *owner) saw(now ownerRecord, text string, mine bool, began time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case mine:
		o.renewed, o.seen, o.holder = began, "", o.self.String()
	default:
		o.renewed = time.Time{}
		if text != o.seen {
			o.seen, o.since, o.holder = text, began, now.String()
		}
	}
}

// owns reports whether this client mirrors.
func (o *owner) owns() bool {
	if o.store == nil {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.left && time.Since(o.renewed) < ownerYield
}

// status fills in who mirrors.
func (o *owner) status(s *Status) {
	s.Owns = o.owns()
	o.mu.Lock()
	defer o.mu.Unlock()
	if s.Owner = o.holder; o.store == nil {
		s.Owner = o.self.String()
	}
}

// resign leaves the place to others at once, if that is quickly done.
func (o *owner) resign() {
	owned := o.store != nil && o.owns()
	o.mu.Lock()
	o.left = true
	o.mu.Unlock()
	if !owned {
		return
	}
	ctx, cancel := context.WithTimeout(o.core.ctx, leaveTimeout)
	defer cancel()
	// If it fails, another client takes the place a little later.
	_ = o.store.side.CAS(ctx, ownerKey, nil, func(in []byte, _ bool) ([]byte, kv.Action, error) {
		var now ownerRecord
		if json.Unmarshal(in, &now) != nil || now.Holder != o.self.Holder {
			return nil, kv.Keep, nil
		}
		return nil, kv.Remove, nil
	})
}

// follow mirrors what changes in the primary, whichever it is.
func (o *owner) follow(ctx context.Context) {
	pause := wait.NewBackoff(10*time.Millisecond, time.Second)
	for ctx.Err() == nil {
		r, err := o.core.selector.reading(ctx, &waiting{})
		if err == nil {
			err = o.followOne(ctx, r)
		}
		if err != nil && ctx.Err() == nil && (r == nil || r.ctx.Err() == nil) {
			o.core.log.Warn("polykv: the primary can't be followed", "error", err)
			pause.Sleep(ctx, ctx, nil)
		}
	}
}

// followOne mirrors what changes in one primary. What it holds at
// first, and what is in the other store only, is for a repair.
func (o *owner) followOne(ctx context.Context, r *route) error {
	session, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	s := o.core.stores[r.at]
	client := s.raw
	if client == nil {
		client = s.client
	}
	synced := false
	return kv.Watch(session, client, kv.PrefixRange(""), func(ev kv.Event) bool {
		switch {
		case ev.Type == kv.Synced && !synced:
			synced = true
			o.core.sweeps.soon()
		case !synced, ev.Type == kv.Synced, ev.Type == kv.Interrupted, kv.Reserved(ev.Key):
		default:
			o.core.mirror.add(session, other(r.at), ev.Key, nil)
		}
		return r.ctx.Err() == nil
	})
}
