package multi

import (
	"context"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// WatchKey implements kv.Client.
func (v *view) WatchKey(ctx context.Context, key string, f func(any) bool) {
	v.watchValues(ctx, "WatchKey", kv.KeyRange(key), func(_ string, value any) bool { return f(value) })
}

// WatchPrefix implements kv.Client.
func (v *view) WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool) {
	v.watchValues(ctx, "WatchPrefix", kv.PrefixRange(prefix), f)
}

func (v *view) watchValues(ctx context.Context, op string, r kv.Range, f func(key string, value any) bool) {
	err := v.watch(ctx, r, func(ev kv.Event) bool {
		switch ev.Type {
		case kv.Put:
			return f(ev.Key, ev.Value)
		case kv.Delete:
			return f(ev.Key, nil)
		default:
			return true
		}
	})
	if endsWatch(err) {
		v.core.log.Warn("polykv: a watch ended", "error", v.core.fail(op, r.Key, err))
	}
}

// endsWatch reports whether err ends a watch whose ctx is not done.
func endsWatch(err error) bool {
	return side.IsAny(err, kv.ErrInvalidKey, kv.ErrClosed, kv.ErrNotSupported)
}

// Watch implements kv.Watcher. When another store becomes primary, f is told
// what differs there, and of no interruption, since nothing was missed.
func (v *view) Watch(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
	return v.core.fail("Watch", r.Key, v.watch(ctx, r, f))
}

// watch follows the primary, one after another.
func (v *view) watch(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
	if v.core.ctx.Err() != nil {
		return kv.ErrClosed
	}
	if !r.IsPrefix {
		if err := v.check(r.Key); err != nil {
			return err
		}
	}
	w := &watch{view: v, rng: r, f: f, delivered: &delivered{keys: make(map[string]*deliveredKey)}, rewrites: kv.RewritesWanted(ctx)}
	pause := wait.NewBackoff(10*time.Millisecond, time.Second)
	for {
		if v.core.ctx.Err() != nil {
			return kv.ErrClosed
		}
		route, err := v.core.selector.reading(ctx, &w.waited)
		if err == nil {
			err = w.follow(ctx, route)
		}
		switch {
		case w.over:
			return nil
		case v.core.ctx.Err() != nil:
			return kv.ErrClosed
		case ctx.Err() != nil:
			return ctxError(ctx)
		case endsWatch(err):
			return err
		case err == nil: // to the next store
			pause.Reset()
			continue
		case !w.interrupted(err):
			return nil
		}
		w.waited = waiting{}
		pause.Sleep(ctx, v.core.ctx, nil)
	}
}

// watch is one call of Watch. Everything happens on its caller's goroutine.
type watch struct {
	*view
	rng       kv.Range
	f         func(kv.Event) bool
	delivered *delivered
	over      bool // f returned false

	rewrites bool       // f wants to know of new versions
	epoch    uint64     // of the versions
	highest  kv.Version // of the snapshot under way

	codec  codec.Codec // of the values that the store shows as bytes; nil: it shows values
	waited waiting     // for a store to be primary, since the last one was
}

// follow delivers what happens on the primary, until another store is.
// It returns nil then, and also when f has had enough.
func (w *watch) follow(ctx context.Context, r *route) error {
	session, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	w.delivered.turn()
	client := w.turnTo(r.at)
	w.epoch = r.epoch
	confirmed := r.guards == nil
	var failed error
	err := kv.Watch(session, client, w.rng, func(ev kv.Event) bool {
		if !confirmed && (ev.Type == kv.Put || ev.Type == kv.Undecodable || ev.Type == kv.Synced) {
			// The snapshot has been read. It is the current state if the store
			// still is primary.
			if failed = w.core.confirmed(session, r); failed != nil {
				return false
			}
			confirmed, w.waited = true, waiting{}
		}
		// A store that is primary no more may be mirrored into.
		return r.ctx.Err() == nil && w.deliver(ev)
	})
	switch {
	case w.over, r.ctx.Err() != nil:
		return nil
	case failed != nil && w.core.selector.again(r, failed, &w.waited):
		return nil
	case failed != nil:
		return failed
	}
	return err
}

// turnTo returns the client by which a store is watched. After the first store
// that is its raw view, if values can be decoded here: only a watch of bytes
// tells of the deletion of a key whose last value nobody could decode, which
// matters if a value was delivered from the store before.
func (w *watch) turnTo(at int) kv.Client {
	s := w.stores[at]
	w.codec = nil
	if w.raw || w.delivered.snapshot == 1 || s.raw == nil || s.codec == nil {
		return w.clients[at]
	}
	w.codec = s.codec
	return s.raw
}

// deliver calls f with ev if it is news, and reports whether to go on.
func (w *watch) deliver(ev kv.Event) bool {
	if w.codec != nil && kv.Reserved(ev.Key) {
		return true // a raw view shows them to those who ask for them
	}
	ev.Version = w.version(ev.Version)
	switch ev.Type {
	case kv.Put, kv.Undecodable:
		before, news := w.delivered.put(ev)
		if !news {
			return !w.rewrites || w.call(kv.Event{Type: kv.Rewritten, Key: ev.Key, Version: ev.Version})
		}
		if w.codec != nil {
			if ev = w.decode(ev); ev.Type == kv.Undecodable {
				w.delivered.takeBack(ev.Key, before)
			}
		}
		return w.call(ev)
	case kv.Delete:
		return !w.delivered.remove(ev.Key) || w.call(ev)
	case kv.Synced:
		for _, key := range w.delivered.complete() {
			w.delivered.remove(key)
			if !w.call(kv.Event{Type: kv.Delete, Key: key}) {
				return false
			}
		}
		if highest := w.highest; highest > 0 {
			w.highest = 0
			if w.rewrites && !w.call(kv.Event{Type: kv.Rewritten, Version: highest}) {
				return false
			}
		}
		if w.delivered.synced {
			return true // of another store before
		}
		w.delivered.synced = true
		return w.call(ev)
	case kv.Interrupted:
		return w.interrupted(ev.Err)
	default:
		return w.call(ev)
	}
}

// version is what users see of a store's version. A snapshot comes in the order
// of keys, so its versions are delivered when it is complete.
func (w *watch) version(of kv.Version) kv.Version {
	version, err := mark(of, w.epoch)
	switch {
	case err != nil:
		return 0
	case w.delivered.scanning:
		w.highest = max(w.highest, version)
		return 0
	}
	return version
}

// decode makes ev, a Put of bytes, one of a value.
func (w *watch) decode(ev kv.Event) kv.Event {
	value, err := decode(w.codec, ev.Stored)
	if err != nil {
		w.core.log.Warn("polykv: a watched value was skipped", "backend", "multi", "key", ev.Key, "error", err)
		return kv.Event{Type: kv.Undecodable, Key: ev.Key, Err: err, Stored: ev.Stored, Version: ev.Version}
	}
	ev.Value = value
	return ev
}

func (w *watch) interrupted(err error) bool {
	w.delivered.synced = false
	return w.call(kv.Event{Type: kv.Interrupted, Err: err})
}

func (w *watch) call(ev kv.Event) bool {
	w.over = !w.f(ev)
	return !w.over
}
