package hostkv

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// Options says what a host's client is like, see [Use].
type Options struct {
	// Name names the store in errors, logs and metrics. Empty: "host".
	Name string

	// Local: the client works on memory of its own process, as one of gossip
	// does. A write that fails then wrote nothing, and reading costs nothing.
	Local bool

	// RescanInterval is how often a watch lists its keys, to find what the
	// host's watches don't tell: deletions, what was dropped, and changes while
	// they begin. Default 5 s.
	RescanInterval time.Duration

	// Client tunes polykv's client. Nil: the defaults.
	Client *kv.Options
}

// Use returns a host's client as one of polykv, for example as a side of
// kv/multi, so that a fleet can leave a store that only the host knows. cdc is
// a [Codec] of the codec that the client was made with.
//
// It keeps the contract of kv.Client as far as a host's client allows:
//
//   - Deletion isn't atomic: it may remove a value that was written in between.
//     Whether a deleted key is gone at once is the host's affair.
//   - A key that changed and changed back to the same bytes counts as unchanged.
//   - Watches tell of deletions within Options.RescanInterval.
//   - There are no guards and no versions.
//   - A value that the host can't decode fails what reads it with others, a
//     watch of its prefix included.
//
// Close of the result leaves the host's client alone.
func Use(c Client, cdc codec.Codec, o Options) kv.Client {
	var opts kv.Options
	if o.Client != nil {
		opts = *o.Client
	}
	opts.Backend = cmp.Or(opts.Backend, o.Name, "host")
	return newUsed(kv.New(newStore(c, cdc, o), cdc, &opts))
}

// used refuses what the versions of a store would be needed for, since they
// are hashes and may come back.
type used struct{ kv.Views }

func newUsed(c kv.Client) kv.Client {
	return &used{kv.Views{Forward: kv.Forward{Client: c}, Wrap: newUsed}}
}

var errVersions = fmt.Errorf("%w: a host's client shows no versions", kv.ErrNotSupported)

// Supports implements kv.Supporter.
func (u *used) Supports(what kv.Capability) error {
	if what == kv.Versions {
		return errVersions
	}
	return u.Forward.Supports(what)
}

func (*used) GetVersion(context.Context, string, ...kv.Guard) (any, kv.Version, error) {
	return nil, 0, errVersions
}

func (*used) SwapVersion(context.Context, string, kv.Version, any, ...kv.Guard) (kv.Version, error) {
	return 0, errVersions
}

func newStore(c Client, cdc codec.Codec, o Options) *store {
	if o.RescanInterval <= 0 {
		o.RescanInterval = 5 * time.Second
	}
	s := &store{host: c, codec: cdc, options: o}
	s.closing, s.stop = context.WithCancel(context.Background())
	return s
}

// store makes a driver of a host's client. Versions are hashes of the encoded
// values, since hosts show none.
type store struct {
	host    Client
	codec   codec.Codec
	options Options

	closing context.Context // ends with Close
	stop    context.CancelFunc
	calls   sync.WaitGroup // calls of the host that are under way
}

var _ driver.Store = (*store)(nil)

var errGuard = fmt.Errorf("%w: a host's client has no guards", driver.ErrNotSupported)

// run calls the host on a goroutine of its own, since hosts may take longer to
// return than a driver is given.
func run[T any](ctx context.Context, s *store, call func(ctx context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	calling, cancel := context.WithCancel(ctx)
	unlink := context.AfterFunc(s.closing, cancel)
	done := make(chan result, 1)
	s.calls.Go(func() {
		defer cancel()
		defer unlink()
		value, err := call(calling)
		done <- result{value, err}
	})
	var none T
	select {
	case r := <-done:
		return r.value, r.err
	case <-s.closing.Done():
		return none, driver.ErrClosed
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// entry makes an entry of a host's value.
func (s *store) entry(key string, value any) (driver.Entry, error) {
	if value == nil {
		return driver.Entry{Key: key}, nil
	}
	data, err := s.codec.Encode(value)
	if err != nil {
		return driver.Entry{}, driver.Permanent(fmt.Errorf("a value of the host's client: %w", err))
	}
	return driver.Entry{Key: key, Value: data, Version: versionOf(data)}, nil
}

// versionOf has 48 bits, as kv/multi marks those above.
func versionOf(data []byte) driver.Version {
	sum := sha256.Sum256(data)
	return max(driver.Version(binary.LittleEndian.Uint64(sum[:])>>16), 1)
}

func (s *store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if len(req.Guards) > 0 {
		return driver.Entry{}, errGuard
	}
	return s.get(ctx, req.Key)
}

func (s *store) get(ctx context.Context, key string) (driver.Entry, error) {
	return run(ctx, s, func(ctx context.Context) (driver.Entry, error) {
		value, err := s.host.Get(ctx, key)
		if err != nil {
			return driver.Entry{}, err
		}
		return s.entry(key, value)
	})
}

// Scan reads everything on one page: hosts list all at once.
func (s *store) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	keys, err := run(ctx, s, func(ctx context.Context) ([]string, error) { return s.host.List(ctx, req.Prefix) })
	if err != nil {
		return driver.Page{}, err
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if after, found := slices.BinarySearch(keys, req.After); found {
		keys = keys[after+1:]
	} else {
		keys = keys[after:]
	}
	var p driver.Page
	for _, key := range keys {
		e := driver.Entry{Key: key, Version: 1}
		if !req.KeysOnly || s.options.Local { // some hosts list what was deleted
			if e, err = s.get(ctx, key); err != nil {
				return driver.Page{}, fmt.Errorf("key %q: %w", key, err)
			}
		}
		if e.Exists() {
			p.Entries = append(p.Entries, e)
		}
	}
	return p, nil
}

func (s *store) Limits() driver.Limits { return driver.Limits{} }

// Close waits for the calls of the host, whose ctx it ends.
func (s *store) Close() error {
	s.stop()
	s.calls.Wait()
	return nil
}

// Swap compares within the host's own compare-and-swap.
func (s *store) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if len(w.Guards) > 0 {
		return driver.Result{Outcome: driver.NotApplied}, errGuard
	}
	if w.Remove {
		return s.remove(ctx, w)
	}
	value, err := s.codec.Decode(w.Value)
	if err == nil {
		value, err = bareOf(s.codec, value)
	}
	if err != nil {
		return driver.Result{Outcome: driver.NotApplied}, driver.Permanent(err)
	}
	a := &attempt{swap: w, value: value}
	_, err = run(ctx, s, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.host.CAS(ctx, w.Key, func(in any) (any, bool, error) { return a.decide(ctx, s, in) })
	})
	return a.result(s.options, err)
}

// bareOf is a decoded value as the host knows it.
func bareOf(cdc codec.Codec, value any) (any, error) {
	if host, ok := cdc.(hostCodec); ok {
		return host.bare(value, true)
	}
	return value, nil
}

// attempt is one Swap. The host may call it from another goroutine, and after
// the Swap has returned.
type attempt struct {
	swap  driver.Swap
	value any

	mu       sync.Mutex
	over     bool // Swap has returned: nothing may be written any more
	wrote    bool // the host was given the value
	conflict *driver.Entry
	err      error // of decide itself
}

// decide is the host's callback.
func (a *attempt) decide(ctx context.Context, s *store, in any) (any, bool, error) {
	now, err := s.entry(a.swap.Key, in)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrote, a.conflict = false, nil // a callback that runs again has written nothing
	switch {
	case a.over:
		return nil, false, context.Canceled
	case ctx.Err() != nil:
		return nil, false, ctx.Err()
	case err != nil:
		a.err = err
		return nil, false, err
	case now.Version != a.swap.Prev.Version || a.swap.Prev.Value != nil && string(now.Value) != string(a.swap.Prev.Value):
		a.conflict = &now
		return nil, false, nil
	}
	a.wrote = true
	return a.value, false, nil
}

// result says what became of the attempt when the host's CAS, or the wait for
// it, ended with err.
func (a *attempt) result(o Options, err error) (driver.Result, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	switch {
	case a.conflict != nil:
		return driver.Result{Outcome: driver.Conflict, Entry: *a.conflict, Known: true}, nil
	case a.err != nil:
		return driver.Result{Outcome: driver.NotApplied}, a.err
	case err == nil && a.wrote:
		return driver.Result{Outcome: driver.Applied}, nil // the value may have been merged, so it isn't known
	case err == nil:
		return driver.Result{}, errors.New("the host's client called no callback and gave no error")
	case strings.Contains(err.Error(), "no change detected"): // which dskit and Cortex don't export
		return driver.Result{Outcome: driver.NotApplied}, driver.Permanent(fmt.Errorf("%w: %w", ErrUnchanged, err))
	case !a.wrote, o.Local && !ended(err):
		return driver.Result{Outcome: driver.NotApplied}, err
	}
	return driver.Result{Outcome: driver.Unknown}, err
}

// ended reports whether the wait for the host has ended, rather than its call.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, driver.ErrClosed)
}

// remove deletes a key that is still as it was seen. Another write may come
// between the look and the deletion.
func (s *store) remove(ctx context.Context, w driver.Swap) (driver.Result, error) {
	now, err := s.get(ctx, w.Key)
	switch {
	case err != nil:
		return driver.Result{Outcome: driver.NotApplied}, err
	case now.Version != w.Prev.Version:
		return driver.Result{Outcome: driver.Conflict, Entry: now, Known: true}, nil
	}
	_, err = run(ctx, s, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.host.Delete(ctx, w.Key) })
	switch {
	case err == nil:
		return driver.Result{Outcome: driver.Applied}, nil
	case s.options.Local && !ended(err):
		return driver.Result{Outcome: driver.NotApplied}, err
	}
	return driver.Result{Outcome: driver.Unknown}, err
}
