package network

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Cause is why something that arrived was refused, or what was dropped: the
// name of a counter.
type Cause string

// The causes.
const (
	CauseShort       Cause = "short"                // fewer bytes than a head has
	CauseForeign     Cause = "foreign"              // not of this protocol
	CauseLabel       Cause = "label"                // of another cluster
	CausePlaintext   Cause = "plaintext"            // not encrypted, though it must be
	CauseKey         Cause = "key"                  // sealed under a key that isn't ours, or forged
	CauseChecksum    Cause = "checksum"             // damaged on the way
	CauseSource      Cause = "source"               // from an address that isn't allowed
	CauseMembership  Cause = "membership"           // membership messages that memberlist must not see
	CauseMember      Cause = "member"               // a member that breaks the bounds of members
	CauseCluster     Cause = "cluster"              // of another cluster that has no label either
	CauseHello       Cause = "hello"                // a connection that didn't introduce itself in time
	CauseConnections Cause = "too_many_connections" // more at once than allowed
	CauseRecord      Cause = "record"               // a stream that was damaged or forged later
	CauseUnsent      Cause = "unsent"               // datagrams that the operating system refused
	CauseQueue       Cause = "queue"                // membership packets that came faster than they were handled
)

var causes = []Cause{
	CauseShort, CauseForeign, CauseLabel, CausePlaintext, CauseKey, CauseChecksum, CauseSource,
	CauseMembership, CauseMember, CauseCluster, CauseHello, CauseConnections, CauseRecord, CauseUnsent, CauseQueue,
}

// Causes returns all causes.
func Causes() []Cause { return slices.Clone(causes) }

// logInterval is how often one cause is logged at most.
const logInterval = time.Minute

// rejects counts what is refused, and logs each cause once a minute: whoever
// sends rubbish must not fill the log with it.
type rejects struct {
	logger *slog.Logger
	due    Limiter
	byName map[Cause]*reject // doesn't change
}

type reject struct{ count, reported atomic.Uint64 }

func newRejects(logger *slog.Logger) *rejects {
	r := &rejects{logger: logger, byName: map[Cause]*reject{}}
	for _, cause := range causes {
		r.byName[cause] = &reject{}
	}
	return r
}

// add counts one refusal. from is whoever sent it and detail may be empty.
func (r *rejects) add(cause Cause, from any, detail string) {
	c := r.byName[cause]
	n := c.count.Add(1)
	if r.due.Allow(string(cause), time.Now()) {
		r.logger.LogAttrs(context.Background(), slog.LevelWarn, "gossip input refused",
			slog.String("cause", string(cause)), slog.Any("from", from), slog.String("detail", detail),
			slog.Uint64("count", n-c.reported.Swap(n)))
	}
}

// counts returns the count of each cause.
func (r *rejects) counts() map[Cause]uint64 {
	m := make(map[Cause]uint64, len(r.byName))
	for cause, c := range r.byName {
		m[cause] = c.count.Load()
	}
	return m
}

// Limiter lets each cause through once a minute. Its zero value is ready for
// use, concurrently.
type Limiter struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// maxLimited bounds what is remembered of causes.
const maxLimited = 256

// Allow tells whether it is the cause's turn.
func (l *Limiter) Allow(cause string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.last[cause]; ok && now.Sub(last) < logInterval {
		return false
	}
	if l.last == nil || len(l.last) >= maxLimited {
		l.last = map[string]time.Time{}
	}
	l.last[cause] = now
	return true
}
