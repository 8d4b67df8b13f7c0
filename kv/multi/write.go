package multi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/internal/removal"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// view is what its user sees of a client: values through the codec, or, as the
// raw view, stored bytes.
type view struct {
	core    *core
	stores  [2]*store
	clients [2]kv.Client
	raw     bool
}

var _ interface {
	kv.Client
	kv.Watcher
	kv.EntryReader
	kv.Pinger
	kv.GuardedClient
	kv.VersionedClient
	kv.RawViewer
	kv.Limiter
	kv.Coder
	kv.Recoder
	kv.Consistent
	kv.Supporter
} = (*Client)(nil)

type casFunc = func(in any) (out any, retry bool, err error)

// CAS implements kv.Client.
func (v *view) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	return v.cas(ctx, "CAS", key, f, nil)
}

// CASGuarded implements kv.GuardedClient; see [Client].
func (v *view) CASGuarded(ctx context.Context, key string, f func(in any) (out any, retry bool, err error), guards ...kv.Guard) error {
	return v.cas(ctx, "CASGuarded", key, f, guards)
}

// Delete implements kv.Client.
func (v *view) Delete(ctx context.Context, key string) error {
	return v.remove(ctx, "Delete", key, nil)
}

// DeleteGuarded implements kv.GuardedClient; see [Client].
func (v *view) DeleteGuarded(ctx context.Context, key string, guards ...kv.Guard) error {
	return v.remove(ctx, "DeleteGuarded", key, guards)
}

// write makes one write on the route to the primary, again and again until it was
// not made on a store that is primary no more, and has the key mirrored afterwards.
// do tells what it wrote.
func (v *view) write(ctx context.Context, op, key string, do func(r *route, p *permit) (outcome, error)) error {
	c := v.core
	if c.ctx.Err() != nil {
		return c.fail(op, key, kv.ErrClosed)
	}
	if err := v.check(key); err != nil {
		return c.fail(op, key, err)
	}
	var w waiting
	for {
		r, p, err := c.selector.writing(ctx, &w)
		if err != nil {
			return c.fail(op, key, err)
		}
		mirrored, err := v.attempt(ctx, key, r, p, do)
		if err != nil && c.selector.again(r, err, &w) {
			continue
		}
		c.mirror.wait(ctx, other(r.at), mirrored)
		return c.fail(op, key, err)
	}
}

// attempt makes the write once. Its mirror is on record before it leaves the
// gate, which it does also when a callback panics: whoever shuts the gate then
// finds the task in the backlog.
func (v *view) attempt(ctx context.Context, key string, r *route, p *permit, do func(r *route, p *permit) (outcome, error)) (mirrored <-chan struct{}, err error) {
	defer p.out()
	c := v.core
	made, err := do(r, p)
	switch {
	case kv.Reserved(key), c.owner != nil && !c.owner.owns():
	case err == nil && made.wrote:
		mirrored = c.mirror.add(ctx, other(r.at), key, made.change)
	case errors.Is(err, kv.ErrIndeterminate):
		mirrored = c.mirror.add(ctx, other(r.at), key, nil)
	}
	return mirrored, err
}

func (v *view) cas(ctx context.Context, op, key string, f casFunc, guards []kv.Guard) error {
	return v.write(ctx, op, key, func(r *route, p *permit) (made outcome, err error) {
		client, decide := v.clients[r.at], f
		n := v.capture(r, key)
		if n != nil {
			client, decide = n.client, n.callback(f)
		}
		callback := func(in any) (any, bool, error) {
			made.wrote = false
			if p.expired() {
				return nil, false, errSwitching
			}
			// Outside the gate while the callback runs: a switch does not wait
			// for callbacks, which may wait for the switch. Nothing of this
			// call can be on its way to the store meanwhile.
			p.out()
			out, retry, err := decide(in)
			if !p.in() {
				return nil, false, errSwitching
			}
			if errors.Is(err, kv.ErrFenced) {
				err = &callersError{err}
			}
			made.wrote = err == nil && out != nil && (out != kv.Remove || in != nil)
			return out, retry, err
		}
		err = v.under(ctx, r, client, guards, func() error {
			return client.CAS(ctx, key, callback)
		}, func(client kv.GuardedClient, all []kv.Guard) error {
			return client.CASGuarded(ctx, key, callback, all...)
		})
		if n != nil {
			made.change = n.change
		}
		return made, err
	})
}

func (v *view) remove(ctx context.Context, op, key string, guards []kv.Guard) error {
	return v.write(ctx, op, key, func(r *route, _ *permit) (outcome, error) {
		ctx := ctx
		var found removal.Note
		if v.capturable(r, key) {
			ctx = removal.WithNote(ctx, &found)
		}
		client := v.clients[r.at]
		err := v.under(ctx, r, client, guards, func() error {
			return client.Delete(ctx, key)
		}, func(client kv.GuardedClient, all []kv.Guard) error {
			return client.DeleteGuarded(ctx, key, all...)
		})
		made := outcome{wrote: true}
		if found.Known {
			made.change = &side.Change{Before: found.Before}
		}
		return made, err
	})
}

// under makes a call on r by plain if no guards are to be put on it, else by
// guarded with all of them: the record's and those of the caller.
func (v *view) under(ctx context.Context, r *route, client kv.Client, callers []kv.Guard, plain func() error,
	guarded func(client kv.GuardedClient, all []kv.Guard) error,
) error {
	all, err := v.guards(r, callers)
	switch {
	case err != nil:
		return err
	case len(all) == 0 && plain != nil:
		return plain()
	}
	g, err := kv.Guarded(client)
	if err == nil {
		err = guarded(g, all)
	}
	return v.blame(ctx, r, callers, err)
}

// SwapVersion implements kv.VersionedClient. A version that was read while
// another store was primary is kv.ErrConflict.
func (v *view) SwapVersion(ctx context.Context, key string, prev kv.Version, value any, guards ...kv.Guard) (kv.Version, error) {
	var version kv.Version
	err := v.write(ctx, "SwapVersion", key, func(r *route, _ *permit) (outcome, error) {
		client, all, err := v.versioned(r, guards)
		if err != nil {
			return outcome{}, err
		}
		at, valid := unmark(prev, r.epoch)
		if !valid {
			return outcome{}, errOtherVersion
		}
		version, err = client.SwapVersion(ctx, key, at, value, all...)
		if err == nil {
			if version, err = mark(version, r.epoch); err != nil {
				err = fmt.Errorf("the write was applied, but %w: %w", kv.ErrIndeterminate, err)
			}
		}
		return outcome{wrote: true}, v.blame(ctx, r, guards, err)
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// versioned returns the versioned client of a route, and the guards to use.
func (v *view) versioned(r *route, callers []kv.Guard) (kv.VersionedClient, []kv.Guard, error) {
	all, err := v.guards(r, callers)
	if err != nil {
		return nil, nil, err
	}
	client, err := kv.Versioned(v.clients[r.at])
	return client, all, err
}

// guards returns what a call on r carries: the record's guard, if there is one,
// and the caller's.
func (v *view) guards(r *route, callers []kv.Guard) ([]kv.Guard, error) {
	all := slices.Clone(r.guards)
	if len(all) > 0 {
		if err := room(v.clients[r.at], len(callers)); err != nil {
			return nil, err
		}
	}
	for _, g := range callers {
		if err := checkForm(g.Key); err != nil {
			return nil, fmt.Errorf("guard: %w", err)
		}
		version, valid := unmark(g.Version, r.epoch)
		if !valid {
			return nil, &callersError{errOtherGuard}
		}
		all = append(all, kv.Guard{Key: g.Key, Version: version})
	}
	return all, nil
}

// room is an error if a store doesn't take so many guards of a caller beside
// that of its record.
func room(c kv.Client, callers int) error {
	if callers == 0 {
		return nil
	}
	l, err := kv.LimitsOf(c)
	if err == nil && callers >= l.Guards {
		err = fmt.Errorf("%w: %d guards; the store takes %d, of which a coordinated client uses one for the store's record", kv.ErrNotSupported, callers, l.Guards)
	}
	return err
}

// blame finds out whose guard was broken: the record's, upon which the call is
// made again where the records say now, or one of the caller's, which is final.
func (v *view) blame(ctx context.Context, r *route, callers []kv.Guard, err error) error {
	if len(callers) == 0 || r.guards == nil || !isFenced(err) {
		return err
	}
	ours, confirmErr := v.core.selector.confirm(ctx, r)
	switch {
	case confirmErr != nil:
		return confirmErr // nothing was written
	case ours:
		return &callersError{err}
	}
	return err
}
