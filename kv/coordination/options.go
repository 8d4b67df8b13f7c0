package coordination

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/polykv/polykv/kv"
)

// The errors of this package, beside those of kv.
var (
	// ErrHeld: somebody else has the lock, or waits for it.
	ErrHeld = errors.New("coordination: the lock is held")

	// ErrLost: the lock was lost, because the holder could not write its beat in
	// time or because the fence was broken.
	ErrLost = errors.New("coordination: the lock was lost")

	// ErrReleased is what [Held.Err] returns of a lock that was given back.
	ErrReleased = errors.New("coordination: it was given back")

	// ErrReplaced: another one joined with the same id, such as a later run of the
	// same program.
	ErrReplaced = errors.New("coordination: another one joined with the same id")
)

// Options of [NewLock], [NewElection] and [NewPresence]. The zero value of a field means its
// default.
type Options struct {
	// TTL is for how long a participant's beat may stand still before others
	// take it for dead. It must be the same for all of a lock or presence. Default 15 s,
	// at least 100 ms; short ones take a store that always answers fast.
	TTL time.Duration

	// Logger gets what has no caller to be told. Default slog.Default().
	Logger *slog.Logger

	// Observer, unless nil, is told what happens. It is called from several
	// goroutines, sometimes under locks: it must return at once and must not
	// use what it observes.
	Observer func(Event)
}

// Event is something that happened to a participant.
type Event struct {
	Name string // of the lock, election or presence
	ID   string // whose attempt it is, or which member
	Type EventType
	Term uint64 // of Acquired, Released and Lost
}

// EventType tells what an [Event] is.
type EventType string

// The types of Event.
const (
	Waiting    EventType = "waiting"     // the attempt is in the queue
	Acquired   EventType = "acquired"    // it got the lock
	Released   EventType = "released"    // it gave the lock back
	Lost       EventType = "lost"        // it lost the lock
	PassedOver EventType = "passed_over" // this participant took another one, ID, for dead

	Joined   EventType = "joined"   // this process became a member
	Left     EventType = "left"     // it left
	Replaced EventType = "replaced" // another one joined with its id
	Gone     EventType = "gone"     // this observer took another member, ID, for dead
)

const (
	defaultTTL = 15 * time.Second
	minTTL     = 100 * time.Millisecond
)

func (o *Options) complete() error {
	switch {
	case o.TTL == 0:
		o.TTL = defaultTTL
	case o.TTL < minTTL:
		return fmt.Errorf("coordination: Options.TTL: %v is less than %v", o.TTL, minTTL)
	}
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Observer == nil {
		o.Observer = func(Event) {}
	}
	return nil
}

// beatEvery is how often a participant writes its beat.
func (o *Options) beatEvery() time.Duration { return o.TTL / 3 }

// lookEvery is how often one that waits looks whether others are dead.
func (o *Options) lookEvery() time.Duration { return o.TTL / 10 }

// counts is for how long a beat counts for who wrote it, since it began to.
func (o *Options) counts() time.Duration { return o.TTL - o.TTL/10 }

// requestTimeout bounds one request on which nobody waits.
func (o *Options) requestTimeout() time.Duration { return o.TTL / 2 }

// check refuses a client on which no lock can hold, and a name below which it has
// no room for beat, the longest of its keys.
func check(c kv.Client, name, beat string) error {
	if err := cmp.Or(kv.CheckKey(name), kv.CheckKey(beat)); err != nil {
		return fmt.Errorf("coordination: the name %q: %w", name, err)
	}
	if !kv.Linearizable(c) {
		return fmt.Errorf("coordination: %q: %w: the store is spread by gossip, where no order of writes could decide who holds a lock", name, kv.ErrNotSupported)
	}
	return nil
}
