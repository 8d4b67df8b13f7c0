package multi

import (
	"context"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// heartbeat keeps this client on the list of "polykv migrate status", in both
// stores.
type heartbeat struct {
	core   *core
	source reporter
	base   side.Heartbeat
	wrote  [2]atomic.Bool // there is something to remove
}

// reporter is the selector of a client that lists itself.
type reporter interface {
	// standing returns where the client stands, and what is closed by the next
	// change of that.
	standing() (standing, <-chan struct{})

	// sees returns how many calls wait for a store to be primary, and what the
	// client finds in each store.
	sees() (waiting int, all []side.Sight)
}

const (
	heartbeatTimeout = 3 * time.Second
	leaveTimeout     = 300 * time.Millisecond

	// heartbeatAgain is the pause after one that could not be written; then it
	// doubles, up to the usual one.
	heartbeatAgain = time.Second

	// heartbeatSpread is the time in which a fleet reports a change that all
	// its clients saw at once.
	heartbeatSpread = 500 * time.Millisecond
)

func newHeartbeat(c *core, source reporter, mode string) *heartbeat {
	return &heartbeat{core: c, source: source, base: side.Heartbeat{
		Instance: side.NewID(), Host: side.Hostname(), PID: os.Getpid(), Version: release(), Started: time.Now().UTC(), Mode: mode,
		Name: c.cfg.ClientName, FenceTimeout: c.cfg.FenceTimeout,
	}}
}

// release is the version of the module that this is a part of.
func release() string { return releaseIn(debug.ReadBuildInfo()) }

func releaseIn(info *debug.BuildInfo, ok bool) string {
	const module = "github.com/polykv/polykv"
	if !ok {
		return ""
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module {
			return m.Version
		}
	}
	return ""
}

func (h *heartbeat) run() {
	ctx := h.core.ctx
	again := heartbeatAgain
	for n := uint64(1); ctx.Err() == nil; n++ {
		reported, wrote := h.beat(ctx, n)
		due := side.HeartbeatEvery
		if wrote {
			again = heartbeatAgain
		} else {
			due = min(due, again)
			again = 2 * due
		}
		h.untilDue(ctx, reported, due)
	}
}

// standing is what of a heartbeat follows from the records, or from what a file
// says. A change of it is reported soon: whoever moves the fleet waits to see it.
type standing struct {
	primary, mirror string
	epoch           uint64
	versions        [2]kv.Version // of the records; 0: there is none
	listed          [2]bool       // the client lists itself in this store
	problem         string        // why what the file says can't be done; "": nothing
}

// untilDue waits until the next heartbeat is due, or a moment after the last one
// was overtaken.
func (h *heartbeat) untilDue(ctx context.Context, reported standing, due time.Duration) {
	timer := time.After(due)
	for overtaken := false; ; {
		now, changed := h.source.standing()
		if now != reported && !overtaken {
			overtaken = true
			timer = time.After(rand.N(heartbeatSpread))
		}
		select {
		case <-changed:
		case <-timer:
			return
		case <-ctx.Done():
			return
		}
	}
}

// standing returns where this client stands, and what is closed by the next
// sighting of a record.
func (rs *records) standing() (standing, <-chan struct{}) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var s standing
	if rs.writes != nil {
		s.primary, s.epoch = rs.core.stores[rs.writes.at].name, rs.writes.epoch
	}
	for i, seen := range rs.seen {
		s.versions[i], s.listed[i] = seen.version, seen.version != 0
		if rs.mirrorState(i) == mirrorOn {
			s.mirror = rs.core.stores[i].name
		}
	}
	return s, rs.changed
}

// sees returns how many calls wait for a store to be primary, and what this
// client finds in each store.
func (rs *records) sees() (waiting int, all []side.Sight) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for i, seen := range rs.seen {
		s := side.Sight{Store: rs.core.stores[i].name, Version: uint64(seen.version)}
		if seen.version != 0 {
			s.Migration = seen.record.Migration
		}
		if seen.err != nil {
			s.Error = seen.err.Error()
		}
		all = append(all, s)
	}
	return rs.waiting, all
}

// begin waits until there is something to report in both stores or, should one be
// away, in one of them for a while: a client is wanted on the lists early.
func (h *heartbeat) begin(ctx context.Context) {
	patience := time.After(heartbeatTimeout)
	for late := false; ctx.Err() == nil; {
		now, changed := h.source.standing()
		if now.listed[0] && now.listed[1] || late && (now.listed[0] || now.listed[1]) {
			return
		}
		select {
		case <-changed:
		case <-patience:
			late = true
		case <-ctx.Done():
		}
	}
}

// beat writes a heartbeat to each store where the client is listed. It returns
// what it reports, and whether it reached all of them.
func (h *heartbeat) beat(ctx context.Context, n uint64) (reported standing, wrote bool) {
	reported, _ = h.source.standing()
	now := h.base
	now.Beat, now.Seen = n, time.Now().UTC()
	now.Primary, now.Epoch, now.Mirror = reported.primary, reported.epoch, reported.mirror
	now.Problem = reported.problem
	t := h.core.mirror.totals()
	now.Backlog, now.Oldest, now.Mirrored, now.Failed, now.MirrorError = t.backlog, t.oldest, t.mirrored, t.failed, t.err
	now.Waiting, now.Sees = h.source.sees()
	var failed atomic.Bool
	h.each(ctx, heartbeatTimeout, func(ctx context.Context, i int) {
		if !reported.listed[i] {
			return
		}
		if h.core.stores[i].side.WriteHeartbeat(ctx, now) != nil {
			failed.Store(true)
			return
		}
		h.wrote[i].Store(true)
	})
	return reported, !failed.Load()
}

// leave takes this client off the list, if that is quickly done.
func (h *heartbeat) leave() {
	h.each(h.core.ctx, leaveTimeout, func(ctx context.Context, i int) {
		if h.wrote[i].Load() {
			// If it fails, the heartbeat is old in a minute and says the same.
			_ = h.core.stores[i].side.RemoveHeartbeat(ctx, h.base.Instance)
		}
	})
}

// each calls f for both stores at the same time.
func (h *heartbeat) each(ctx context.Context, limit time.Duration, f func(ctx context.Context, i int)) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var both sync.WaitGroup
	for i := range h.core.stores {
		both.Go(func() { f(ctx, i) })
	}
	both.Wait()
}
