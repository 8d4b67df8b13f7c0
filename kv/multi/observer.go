package multi

import "time"

// Observer is told what a client does beside serving calls. Its methods are
// called concurrently, some under a lock: they must be quick and must not use
// the client. kv/metrics implements it. Embed [NopObserver] so that later
// additions don't break an implementation.
type Observer interface {
	// Mirrored: an attempt to mirror one key into a store ended. err is nil if
	// the key is equal now.
	Mirrored(store string, d time.Duration, err error)

	// Backlog: so many keys are left to be mirrored into a store.
	Backlog(store string, keys int)

	// Moved: a store became primary, as far as this client knows.
	Moved(store string)

	// Repaired: a comparison of the whole stores ended, which found so many
	// keys that differed.
	Repaired(store string, different int, err error)

	// Standing: where this client stands has changed. phase is a [Phase];
	// primary is the name of the store that is primary, as far as the client
	// knows, empty for none, of which epoch is the record's.
	Standing(phase, primary string, epoch uint64)

	// Waiting: so many calls wait for a store to be primary.
	Waiting(calls int)

	// Strays: so many keys were found in a store that is mirrored into, by the
	// last comparison, which nobody had mirrored.
	Strays(store string, keys int)
}

// NopObserver does nothing.
type NopObserver struct{}

var _ Observer = NopObserver{}

// Mirrored does nothing.
func (NopObserver) Mirrored(string, time.Duration, error) {}

// Backlog does nothing.
func (NopObserver) Backlog(string, int) {}

// Moved does nothing.
func (NopObserver) Moved(string) {}

// Repaired does nothing.
func (NopObserver) Repaired(string, int, error) {}

// Standing does nothing.
func (NopObserver) Standing(_, _ string, _ uint64) {}

// Waiting does nothing.
func (NopObserver) Waiting(int) {}

// Strays does nothing.
func (NopObserver) Strays(string, int) {}
