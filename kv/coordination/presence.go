package coordination

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// Presence is who is there: members that join with an id and some data, and
// observers that follow them. It works on every store, gossip included. Its
// methods may be called concurrently.
type Presence struct {
	names
	*life
	client   kv.Client          // of bytes
	versions kv.VersionedClient // nil: it shows none
	guarded  kv.GuardedClient   // nil: it takes none
	roster   roster             // nil: the store doesn't know who is there
	leases   *kv.LeasedClient   // nil: members beat, unless there is a roster

	// Under mu.
	joined    map[*Membership]struct{}
	following bool
	synced    bool // the watch is in step
	ready     bool // it once was
	seen      map[string]*observed
	changes   uint64 // of who is there
}

// Member is one who is there.
type Member struct {
	ID   string `json:"id"`
	Data string `json:"data"`
}

// roster is the optional interface of clients whose store knows which processes
// run: the nodes of gossip. [kv.As] finds it.
type roster interface {
	// Instance names the run of this process; empty: nothing is known.
	Instance() string
	// Standing reports whether an instance is there, if it is known.
	Standing(instance string) (there, known bool)
	// PeersChanged is closed when an instance comes or goes.
	PeersChanged() <-chan struct{}
}

// NewPresence returns the presence with that name, a key that is relative to c;
// its own keys lie below it. Everybody who means the same one uses the same name
// under the same prefix, and the same TTL. Nothing is contacted, and nothing is
// begun before the first call.
//
// c must offer kv.Watch and kv.WithCodec. Close the presence before c.
func NewPresence(c kv.Client, name string, opts Options) (*Presence, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := kv.CheckKey(name); err != nil {
		return nil, fmt.Errorf("coordination: the name %q: %w", name, err)
	}
	bytes, err := kv.WithCodec(c, codec.Bytes{})
	if err != nil {
		return nil, err
	}
	p := &Presence{names: names{name}, life: newLife(opts), client: bytes, joined: map[*Membership]struct{}{}, seen: map[string]*observed{}}
	p.versions, _ = kv.Versioned(bytes)
	if kv.Linearizable(c) {
		p.guarded, _ = kv.Guarded(bytes)
		if l, err := kv.Leased(c); err == nil && l.MinTTL() <= opts.TTL {
			p.leases, _ = kv.Leased(bytes)
		}
	} else if r, ok := kv.As[roster](c); ok && r.Instance() != "" {
		p.roster = r
	}
	return p, nil
}

// Members returns who is there, sorted by id, as soon as p's watch is in step with
// the store. One that died counts until its time is up, see package
// coordination. It ends with ctx's cause or with kv.ErrClosed.
func (p *Presence) Members(ctx context.Context) ([]Member, error) {
	p.follow()
	if err := p.wait(ctx, func() bool { return p.synced }); err != nil {
		return nil, p.fail("Members", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.there(), nil
}

// Watch yields who is there, sorted by id: the present members first, then all of
// them again after each change. States in between may be left out while the
// loop's body is busy. While the store is out of reach nobody comes or goes. An
// item with an error is the last one; it tells why the loop ends: ctx's cause, or
// kv.ErrClosed.
func (p *Presence) Watch(ctx context.Context) iter.Seq2[[]Member, error] {
	return func(yield func([]Member, error) bool) {
		p.follow()
		var last []Member
		for told := uint64(0); ; {
			err := p.wait(ctx, func() bool { return p.ready && p.changes != told })
			if err != nil {
				yield(nil, p.fail("Watch", err))
				return
			}
			p.mu.Lock()
			first, now := told == 0, p.there()
			told = p.changes
			p.mu.Unlock()
			if !first && slices.Equal(now, last) {
				continue
			}
			last = now
			if !yield(slices.Clone(now), nil) {
				return
			}
		}
	}
}

// there returns who is there; p.mu is held.
func (p *Presence) there() []Member {
	all := make([]Member, 0, len(p.seen))
	for id, s := range p.seen {
		if s.exists && !s.gone {
			all = append(all, Member{id, s.record.Data})
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Close leaves with every id that p joined with, ends waiting calls with
// kv.ErrClosed, and releases what p needs. It is idempotent, and leaves the
// client open.
func (p *Presence) Close() error {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.wg.Wait()
	p.mu.Lock()
	joined := p.joined
	p.joined = nil
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), min(p.opts.requestTimeout(), closeTimeout))
	defer cancel()
	var leaving sync.WaitGroup
	for m := range joined {
		leaving.Go(func() {
			m.end(ErrReleased, Left)
			if err := m.remove(ctx); err != nil && !errors.Is(err, kv.ErrClosed) {
				p.opts.Logger.Warn("polykv: a member could not leave; others take it for dead after a TTL", "name", p.name, "id", m.id, "error", err)
			}
		})
	}
	leaving.Wait()
	return nil
}
