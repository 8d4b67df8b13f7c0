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
