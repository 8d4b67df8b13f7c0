package kv

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"
)

// Options tunes a client made by [New]. The zero value of a field means its
// default; see [DefaultOptions].
type Options struct {
	// Backend names the backend in errors, logs and metrics.
	Backend string

	// RetryTimeout bounds how long a call is retried while the store can't be
	// reached or can't answer (A1). Default 10 s.
	RetryTimeout time.Duration

	// AttemptTimeout bounds one request to the store, so that a lost answer
	// is noticed. Default 3 s, or what the driver says: 8 s on Consul, whose
	// servers hold a request for 7 s while there is no leader.
	AttemptTimeout time.Duration

	// ContentionTimeout bounds how long a CAS goes on after its first
	// conflict (C5), time inside callbacks left out. Default 30 s.
	ContentionTimeout time.Duration

	// SlowCallback is how long a CAS callback may hold up the other callers
	// of its key before they go on without it; it then runs again. It doubles
	// with each such eviction of one call, up to 100 times its value. Default
	// 100 ms.
	SlowCallback time.Duration

	// MaxAttempts bounds how often a CAS callback that asks for a retry is
	// called (C4). Default 10.
	MaxAttempts int

	// MinBackoff and MaxBackoff bound the jittered exponential pause before a
	// retry. Defaults 10 ms and 1 s. Pauses between conflicts are far shorter,
	// see docs/design.md.
	MinBackoff, MaxBackoff time.Duration

	// MaxValueSize lowers the store's limit for an encoded value, in bytes.
	// Default: the store's own.
	MaxValueSize int

	// RememberEntries, RememberBytes and RememberFor bound what the client
	// remembers of the entries it last saw or wrote, by which an uncontended
	// CAS is one round trip and not two: their number, the bytes of their
	// values, and their age. Defaults 4096, 16 MiB and 5 min. A negative
	// RememberEntries turns it off. Remembered entries are only ever a guess
	// that the swap confirms; they are never returned by Get.
	RememberEntries int
	RememberBytes   int
	RememberFor     time.Duration

	// ShareBytes bounds what the client keeps of keys and values that it
	// watches, so that watches of the same range, and of keys and prefixes
	// within it, share one session of the store. Beyond that, watches have
	// sessions of their own. Default 64 MiB; negative: none share. It is of no
	// account where the store is in this process.
	ShareBytes int

	// CompareWatches is how often what watches were told is compared with what
	// the store has, for an event that a server or a proxy lost: the keys and
	// versions of each watched range are listed, after a time drawn from once to
	// twice as long, and at most 100 keys a second. Default 10 min; negative:
	// never. It is of no account where the store is in this process, and on
	// Consul, each of whose answers is all of the range.
	CompareWatches time.Duration

	// ScanPage is the number of entries asked for at once when a prefix is
	// read. Default 1000.
	ScanPage int

	// ListPage is the number of keys asked for at once by List. Default:
	// ScanPage if that is set, else 10,000.
	ListPage int

	// Logger gets what has no caller to be told. Default slog.Default().
	Logger *slog.Logger

	// Observer is told what the engine does; several are by [Observers]. One that
	// is a [Tracer] is there when requests and watch sessions begin. Default: none.
	Observer Observer
}

// DefaultOptions returns the defaults, field by field as documented.
func DefaultOptions() Options {
	return Options{
		RetryTimeout:      10 * time.Second,
		AttemptTimeout:    3 * time.Second,
		ContentionTimeout: 30 * time.Second,
		SlowCallback:      100 * time.Millisecond,
		MaxAttempts:       10,
		MinBackoff:        10 * time.Millisecond,
		MaxBackoff:        time.Second,
		RememberEntries:   4096,
		RememberBytes:     16 << 20,
		RememberFor:       5 * time.Minute,
		ShareBytes:        64 << 20,
		CompareWatches:    10 * time.Minute,
		ScanPage:          1000,
		ListPage:          10_000,
	}
}

// Validate reports the first field that has no meaning, by name.
func (o Options) Validate() error {
	for _, f := range []struct {
		name     string
		value    any
		negative bool
	}{
		{"RetryTimeout", o.RetryTimeout, o.RetryTimeout < 0},
		{"AttemptTimeout", o.AttemptTimeout, o.AttemptTimeout < 0},
		{"ContentionTimeout", o.ContentionTimeout, o.ContentionTimeout < 0},
		{"SlowCallback", o.SlowCallback, o.SlowCallback < 0},
		{"MinBackoff", o.MinBackoff, o.MinBackoff < 0},
		{"MaxBackoff", o.MaxBackoff, o.MaxBackoff < 0},
		{"RememberFor", o.RememberFor, o.RememberFor < 0},
		{"MaxAttempts", o.MaxAttempts, o.MaxAttempts < 0},
		{"MaxValueSize", o.MaxValueSize, o.MaxValueSize < 0},
		{"RememberBytes", o.RememberBytes, o.RememberBytes < 0},
		{"ScanPage", o.ScanPage, o.ScanPage < 0},
		{"ListPage", o.ListPage, o.ListPage < 0},
	} {
		if f.negative {
			return fmt.Errorf("kv.Options.%s is %v; it must not be negative", f.name, f.value)
		}
	}
	if o.MinBackoff > 0 && o.MaxBackoff > 0 && o.MinBackoff > o.MaxBackoff {
		return fmt.Errorf("kv.Options.MinBackoff (%v) is longer than MaxBackoff (%v)", o.MinBackoff, o.MaxBackoff)
	}
	return nil
}

// withDefaults fills what is zero.
func (o Options) withDefaults() Options {
	d := DefaultOptions()
	o.RetryTimeout = cmp.Or(o.RetryTimeout, d.RetryTimeout)
	o.AttemptTimeout = cmp.Or(o.AttemptTimeout, d.AttemptTimeout)
	o.ContentionTimeout = cmp.Or(o.ContentionTimeout, d.ContentionTimeout)
	o.SlowCallback = cmp.Or(o.SlowCallback, d.SlowCallback)
	o.MaxAttempts = cmp.Or(o.MaxAttempts, d.MaxAttempts)
	o.MinBackoff = cmp.Or(o.MinBackoff, d.MinBackoff)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, max(d.MaxBackoff, o.MinBackoff))
	o.RememberEntries = cmp.Or(o.RememberEntries, d.RememberEntries)
	o.RememberBytes = cmp.Or(o.RememberBytes, d.RememberBytes)
	o.RememberFor = cmp.Or(o.RememberFor, d.RememberFor)
	o.ShareBytes = cmp.Or(o.ShareBytes, d.ShareBytes)
	o.CompareWatches = cmp.Or(o.CompareWatches, d.CompareWatches)
	o.ListPage = cmp.Or(o.ListPage, o.ScanPage, d.ListPage)
	o.ScanPage = cmp.Or(o.ScanPage, d.ScanPage)
	o.Backend = cmp.Or(o.Backend, "kv")
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Observer == nil {
		o.Observer = NopObserver{}
	}
	return o
}
