package coordination

import (
	"context"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// life is what participants of every kind have: goroutines that end with Close,
// and a state that is waited for.
type life struct {
	opts   Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when what is under mu changes
}

func newLife(opts Options) *life {
	ctx, cancel := context.WithCancel(context.Background())
	return &life{opts: opts, ctx: ctx, cancel: cancel, changed: make(chan struct{})}
}

// wait returns when cond, which is called under l.mu, is true.
func (l *life) wait(ctx context.Context, cond func() bool) error {
	for {
		l.mu.Lock()
		ok, changed := cond(), l.changed
		l.mu.Unlock()
		switch {
		case l.ctx.Err() != nil:
			return kv.ErrClosed
		case ok:
			return nil
		}
		if err := l.pause(ctx, changed, l.opts.lookEvery()); err != nil {
			return err
		}
	}
}

// watch tells take, under l.mu, of what happens below a name until Close.
func (l *life) watch(c kv.Client, n names, take func(kv.Event)) {
	err := kv.Watch(l.ctx, c, kv.PrefixRange(n.all()), func(e kv.Event) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		take(e)
		return true
	})
	if l.ctx.Err() == nil {
		l.opts.Logger.Warn("polykv: the keys of a lock or presence can't be watched any more", "name", n.name, "error", err)
	}
}

// call begins a call that Close ends and waits for, unless it came first. end ends it.
func (l *life) call(parent context.Context) (ctx context.Context, end func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil, nil, kv.ErrClosed
	}
	l.wg.Add(1)
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(l.ctx, func() { cancel(kv.ErrClosed) })
	return ctx, func() { stop(); cancel(nil); l.wg.Done() }, nil
}

// pause waits for a change, but not longer than d.
func (l *life) pause(ctx context.Context, changed <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.ctx.Done():
		return kv.ErrClosed
	}
	return nil
}

// tell has everybody look again; l.mu is held.
func (l *life) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// bounded is a ctx for requests on which nobody waits.
func (l *life) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(l.ctx, l.opts.requestTimeout())
}

// closeTimeout bounds what Close waits for the store.
const closeTimeout = 3 * time.Second
