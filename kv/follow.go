package kv

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Follower is a copy of a range in this process, kept by a watch; see [Follow].
// Its methods may be called concurrently; none but those with a ctx waits.
type Follower = FollowerOf[any]

// FollowerOf is a [Follower] whose values are of type T.
type FollowerOf[T any] struct {
	rng    Range
	value  func(Event) (T, error)
	cancel context.CancelFunc
	ended  chan struct{} // closed when the watch has returned
	once   sync.Once

	now    atomic.Pointer[followed[T]]
	values sync.Map    // what Get reads, of string and T: the tree takes four times as long
	shown  atomic.Bool // the copy was complete once

	// Only the goroutine of the watch uses these.
	building *iradix.Txn[T] // until the copy is complete for the first time
}

// followed is the copy at one moment. It never changes.
type followed[T any] struct {
	tree     *iradix.Tree[T]
	version  Version
	complete bool          // Synced was told once
	behind   time.Time     // since when it is not known to be in step; zero: it is
	why      error         // of that
	err      error         // of the watch, once it has ended
	next     chan struct{} // closed when another one takes its place
}

// Follow keeps a copy of r in this process until ctx is done, the client is
// closed, or Close is called; Close must be called. Reading it asks no server.
// It stands on [Watch] and needs a client that has that; else Ready and Err
// return ErrNotSupported. Over kv/multi it follows through a cutover.
//
//	users := kv.Follow(ctx, client, kv.PrefixRange("users/"))
//	defer users.Close()
//	if err := users.Ready(ctx); err != nil {
//	value, ok := users.Get("users/ann")
//
// What it guarantees:
//
//   - F1, in step: once the first state of the store is complete (Ready), the
//     copy has every key of the range, each in a state that the store had, and
//     comes to the final state of each. Before that it shows nothing. The
//     states are those of different moments; Behind tells whether the copy is
//     in step, as far as is known here, and since when it is not.
//   - F2, read your writes: after WaitFor(ctx, v) with the version v of a write
//     in the range, by anybody, the copy shows that write or a later one.
//   - F3, never backwards: no state of a key is followed by an older one.
//
// What it can't: be linearizable. A copy is as old as its watch, some
// milliseconds, and as old as the outage while the store is away; who can't
// have that calls Get. A deletion has no version to wait for. After a store was
// set back to a backup, versions from before mean nothing, and WaitFor of newer
// ones may return too early.
//
// A key whose value can't be decoded is left out until it can be.
func Follow(ctx context.Context, c Client, r Range) *Follower {
	return follow(ctx, c, r, func(ev Event) (any, error) { return ev.Value, nil })
}

// Follow is [Follow] with values of type T. Values of other types are left out.
func (t TypedClient[T]) Follow(ctx context.Context, r Range) *FollowerOf[T] {
	return follow(ctx, t.c, r, func(ev Event) (T, error) { return typed[T]("Follow", ev.Key, ev.Value) })
}

func follow[T any](ctx context.Context, c Client, r Range, value func(Event) (T, error)) *FollowerOf[T] {
	ctx, cancel := context.WithCancel(ctx)
	f := &FollowerOf[T]{rng: r, value: value, cancel: cancel, ended: make(chan struct{})}
	f.now.Store(&followed[T]{tree: iradix.New[T](), behind: time.Now(), next: make(chan struct{})})
	f.building = iradix.New[T]().Txn()
	go func() {
		defer close(f.ended)
		err := Watch(WithRewrites(ctx), c, r, f.take)
		f.change(func(now *followed[T]) {
			now.err, now.why = err, err
			if now.behind.IsZero() {
				now.behind = time.Now()
			}
		})
	}()
	return f
}

// take is the callback of the watch.
func (f *FollowerOf[T]) take(ev Event) bool {
	switch ev.Type {
	case Put:
		value, err := f.value(ev)
		if err != nil {
			f.remove(ev)
			break
		}
		f.change(func(now *followed[T]) {
			now.version = max(now.version, ev.Version)
			if f.building != nil {
				f.building.Insert([]byte(ev.Key), value)
				return
			}
			f.values.Store(ev.Key, value)
			now.tree, _, _ = now.tree.Insert([]byte(ev.Key), value)
		})
	case Delete, Undecodable:
		f.remove(ev)
	case Rewritten:
		f.change(func(now *followed[T]) { now.version = max(now.version, ev.Version) })
	case Synced:
		f.change(func(now *followed[T]) {
			now.complete, now.behind, now.why = true, time.Time{}, nil
			if f.building != nil {
				now.tree, f.building = f.building.Commit(), nil
				f.show(now.tree)
			}
		})
	case Interrupted:
		f.change(func(now *followed[T]) {
			if now.why = ev.Err; now.behind.IsZero() {
				now.behind = time.Now()
			}
		})
	}
	return true
}

func (f *FollowerOf[T]) remove(ev Event) {
	f.change(func(now *followed[T]) {
		now.version = max(now.version, ev.Version)
		if f.building != nil {
			f.building.Delete([]byte(ev.Key))
			return
		}
		f.values.Delete(ev.Key)
		now.tree, _, _ = now.tree.Delete([]byte(ev.Key))
	})
}

// change shows another copy. Those who wait for one look before the copy is
// complete only if the watch ended or was interrupted.
func (f *FollowerOf[T]) change(alter func(now *followed[T])) {
	before := f.now.Load()
	now := *before
	alter(&now)
	if !now.complete && now.err == nil && now.why == nil {
		f.now.Store(&now) // nothing to be seen yet
		return
	}
	now.next = make(chan struct{})
	f.now.Store(&now)
	close(before.next)
}

// Get returns the value of a key, and whether the copy has it. The value is
// shared: read, don't modify.
func (f *FollowerOf[T]) Get(key string) (value T, ok bool) {
	if !f.shown.Load() {
		return value, false
	}
	v, ok := f.values.Load(key)
	if !ok {
		return value, false
	}
	value, ok = v.(T)
	return value, ok
}

// show has Get find what is in the tree, from its first state on.
func (f *FollowerOf[T]) show(tree *iradix.Tree[T]) {
	it := tree.Root().Iterator()
	for key, value, ok := it.Next(); ok; key, value, ok = it.Next() {
		f.values.Store(string(key), value)
	}
	f.shown.Store(true)
}

// Entries iterates over the copy as it is when the loop begins, in ascending
// order of keys.
func (f *FollowerOf[T]) Entries() iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		it := f.now.Load().tree.Root().Iterator()
		for key, value, ok := it.Next(); ok && yield(string(key), value); key, value, ok = it.Next() {
		}
	}
}

// Len returns the number of keys of the copy.
func (f *FollowerOf[T]) Len() int { return f.now.Load().tree.Len() }

// Version returns the highest version that the copy has seen; 0: none.
func (f *FollowerOf[T]) Version() Version {
	if now := f.now.Load(); now.complete {
		return now.version
	}
	return 0
}

// Changed returns a channel that is closed when the copy, or what is known of
// its age, is another than at the time of the call. So take the channel first
// and read then.
func (f *FollowerOf[T]) Changed() <-chan struct{} { return f.now.Load().next }

// Behind tells how old the copy may be: zero if it is in step with the store as
// far as the watch knows, else since when it is not, or was not yet, and why.
// why is nil while the first state is being read.
func (f *FollowerOf[T]) Behind() (since time.Time, why error) {
	now := f.now.Load()
	return now.behind, now.why
}

// Ready waits until the copy has been complete once. It returns ctx's error, or
// that of the watch if it ended before.
func (f *FollowerOf[T]) Ready(ctx context.Context) error {
	return f.wait(ctx, func(now *followed[T]) bool { return now.complete })
}

// WaitFor waits until the copy has seen version, which [VersionedClient] tells
// of a write, or a higher one. It returns ctx's error, or that of the watch if
// it ended before.
func (f *FollowerOf[T]) WaitFor(ctx context.Context, version Version) error {
	return f.wait(ctx, func(now *followed[T]) bool { return now.complete && now.version >= version })
}

func (f *FollowerOf[T]) wait(ctx context.Context, until func(now *followed[T]) bool) error {
	for {
		now := f.now.Load()
		switch {
		case until(now):
			return nil
		case now.err != nil:
			return now.err
		}
		select {
		case <-now.next:
		case <-ctx.Done():
			return &Error{Op: "Follow", Key: f.rng.Key, Err: ctxError(ctx, now.why)}
		}
	}
}

// Err returns why the watch has ended, after which the copy stays as it is; nil
// while it runs.
func (f *FollowerOf[T]) Err() error { return f.now.Load().err }

// Close ends the watch and waits for it. The copy stays readable. It is
// idempotent and must not be called by the codec of the client.
func (f *FollowerOf[T]) Close() {
	f.once.Do(f.cancel)
	<-f.ended
}
