package multi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// RecordCheck says what a client of one store does about a record that says
// that the store is not, or no longer, for its clients to write.
type RecordCheck string

// The kinds of RecordCheck.
const (
	RecordRefuse RecordCheck = "refuse" // it refuses writes with kv.ErrFenced
	RecordWarn   RecordCheck = "warn"   // it logs a warning
	RecordIgnore RecordCheck = "ignore" // it never reads the record
)

// Validate says what is allowed.
func (c RecordCheck) Validate() error {
	switch c {
	case RecordRefuse, RecordWarn, RecordIgnore:
		return nil
	}
	return fmt.Errorf("%q is not allowed; it must be %q, %q or %q", string(c), RecordRefuse, RecordWarn, RecordIgnore)
}

const (
	// plainCheck is how often a client of one store reads the record while it
	// writes, and plainCheckMoving how often while there is one: a migration may
	// be under way.
	plainCheck       = 10 * time.Second
	plainCheckMoving = time.Second

	// plainPatience is how long a write waits for the record to be read.
	plainPatience = 3 * time.Second
)

// CheckRecord returns c, a client of one store alone, which from then on reads
// the store's record before its first write and now and then: the host that was
// forgotten when a fleet moved must not write to the store that the fleet has
// left. Writes to a store that the record calls anything but primary are
// refused or warned of, as check says; a store without a record is for all.
//
// It is not fenced, as coordinated clients are: it may write for a moment (a
// second at most while it writes all the time) after the store was left. A
// record that can't be read, for want of rights say, keeps nobody from writing. The raw
// view, and calls that are guarded by the record itself, are not checked. Close
// closes c.
func CheckRecord(c kv.Client, check RecordCheck, log *slog.Logger) (kv.Client, error) {
	if err := check.Validate(); err != nil {
		return nil, fmt.Errorf("multi: %w", err)
	}
	if check == RecordIgnore {
		return c, nil
	}
	s, err := side.New("this store", c, nil)
	if err != nil {
		return c, nil //nolint:nilerr // without stored bytes there are no records
	}
	p := &plain{Forward: kv.Forward{Client: c}, side: s, check: check, log: log}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// plain is a client of one store that looks at its record.
type plain struct {
	kv.Forward
	side  *side.Side
	check RecordCheck
	log   *slog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	reads  sync.WaitGroup

	mu      sync.Mutex
	record  side.Record   // as last read; the zero value: there is none
	at      time.Time     // when that was begun; zero: never
	reading chan struct{} // closed when the read under way has ended; nil: none is
	closed  bool
	logged  string // what was logged last
}

// write makes sure that the store may be written.
func (p *plain) write(ctx context.Context, op, key string) error {
	if err := p.look(ctx, true); err != nil {
		return &kv.Error{Op: op, Backend: "multi", Key: key, Err: err}
	}
	return nil
}

// look reads the record if that is due, and says whether the store may be
// written. Who writes waits for it.
func (p *plain) look(ctx context.Context, writing bool) error {
	p.mu.Lock()
	due := plainCheck
	if p.record.State != "" {
		due = plainCheckMoving
	}
	if time.Since(p.at) >= due && p.reading == nil && !p.closed {
		p.reading = make(chan struct{})
		p.reads.Go(p.read)
	}
	reading := p.reading
	p.mu.Unlock()
	if writing && reading != nil {
		select {
		case <-reading:
		case <-time.After(plainPatience):
		case <-ctx.Done(): // the call itself says so
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !writing || !p.left() || p.check == RecordWarn {
		return nil
	}
	return fmt.Errorf("%w: %s", kv.ErrFenced, p.describe())
}

// left reports whether the record says that clients have left the store, or
// not come to it yet; p.mu is held.
func (p *plain) left() bool { return p.record.State != "" && p.record.State != side.Primary }

// describe says what is wrong; p.mu is held.
func (p *plain) describe() string {
	r := p.record
	text := fmt.Sprintf(`store %q takes no writes of clients that know it alone: its record says %q, in a migration from %q to %q`, r.Store, r.State, r.Source, r.Target)
	if r.State == side.Retired {
		return text + fmt.Sprintf("; configure this client for store %q", r.Other())
	}
	return text + `; configure this client for both stores, coordinated, as "polykv migrate status" shows the others`
}

func (p *plain) read() {
	began := time.Now()
	ctx, cancel := context.WithTimeout(p.ctx, plainPatience)
	defer cancel()
	record, version, err := p.side.ReadRecordAny(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.reading)
	p.reading = nil
	p.at = began
	switch {
	case p.ctx.Err() != nil:
	case err != nil:
		level := slog.LevelWarn
		if errors.Is(err, kv.ErrPermission) {
			level = slog.LevelInfo // whose calls are refused hears it from them, and others may have rights on their own keys alone
		}
		p.logOnce(level, "polykv: the store's record can't be read, so writes to a store that was left go unnoticed: "+err.Error())
	default:
		if p.record = record; version == 0 {
			p.record = side.Record{}
		}
		if p.left() {
			p.logOnce(slog.LevelWarn, "polykv: "+p.describe())
		}
	}
}

// logOnce logs what was not logged last; p.mu is held.
func (p *plain) logOnce(level slog.Level, text string) {
	if text != p.logged {
		p.logged = text
		p.log.Log(p.ctx, level, text)
	}
}

// CAS implements kv.Client.
func (p *plain) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	if err := p.write(ctx, "CAS", key); err != nil {
		return err
	}
	return p.Client.CAS(ctx, key, f)
}

// Delete implements kv.Client.
func (p *plain) Delete(ctx context.Context, key string) error {
	if err := p.write(ctx, "Delete", key); err != nil {
		return err
	}
	return p.Client.Delete(ctx, key)
}

// CASGuarded implements kv.GuardedClient.
func (p *plain) CASGuarded(ctx context.Context, key string, f func(any) (any, bool, error), guards ...kv.Guard) error {
	if err := p.writeGuarded(ctx, "CASGuarded", key, guards); err != nil {
		return err
	}
	return p.Forward.CASGuarded(ctx, key, f, guards...)
}

// DeleteGuarded implements kv.GuardedClient.
func (p *plain) DeleteGuarded(ctx context.Context, key string, guards ...kv.Guard) error {
	if err := p.writeGuarded(ctx, "DeleteGuarded", key, guards); err != nil {
		return err
	}
	return p.Forward.DeleteGuarded(ctx, key, guards...)
}

// SwapVersion implements kv.VersionedClient.
func (p *plain) SwapVersion(ctx context.Context, key string, prev kv.Version, value any, guards ...kv.Guard) (kv.Version, error) {
	if err := p.writeGuarded(ctx, "SwapVersion", key, guards); err != nil {
		return 0, err
	}
	return p.Forward.SwapVersion(ctx, key, prev, value, guards...)
}

// writeGuarded is write unless the record itself guards the call: then its
// caller knows it.
func (p *plain) writeGuarded(ctx context.Context, op, key string, guards []kv.Guard) error {
	if slices.ContainsFunc(guards, func(g kv.Guard) bool { return g.Key == side.RecordKey }) {
		return nil
	}
	return p.write(ctx, op, key)
}

// Get implements kv.Client. A store that was left is warned of.
func (p *plain) Get(ctx context.Context, key string) (any, error) {
	_ = p.look(ctx, false) // only writes are refused
	return p.Client.Get(ctx, key)
}

// List implements kv.Client. A store that was left is warned of.
func (p *plain) List(ctx context.Context, prefix string) ([]string, error) {
	_ = p.look(ctx, false) // only writes are refused
	return p.Client.List(ctx, prefix)
}

// Entries implements kv.EntryReader. A store that was left is warned of.
func (p *plain) Entries(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
	_ = p.look(ctx, false) // only writes are refused
	return p.Forward.Entries(ctx, prefix)
}

// Close implements kv.Client.
func (p *plain) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	err := p.Client.Close()
	p.reads.Wait()
	return err
}
