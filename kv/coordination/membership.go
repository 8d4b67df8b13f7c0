package coordination

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
)

// Membership is a member of this process. Its methods may be called concurrently.
type Membership struct {
	p    *Presence
	id   string
	run  string // names this membership; no other has the same
	node string // the instance of the process, if p has a roster
	done chan struct{}
	ctx  context.Context // ends with the membership
	stop context.CancelFunc
	kick chan struct{} // of capacity 1: there is something to write

	writing sync.Mutex // one write at a time
	beats   uint64     // the last one written; under writing
	lease   *kv.Lease  // nil: none; under writing
	beating bool       // though the store has leases; under writing

	mu    sync.Mutex
	data  string
	known bool            // the record was written once
	dirty bool            // the record must be written
	lost  <-chan struct{} // closed when the lease is over; nil: there is none
	err   error           // why it is over; nil: it isn't
}

// Join makes this process a member, and returns when others can see it. It stays
// one until [Membership.Leave] or Close: when the store was out of reach for so
// long that others took it for gone, it joins again by itself.
//
// The id is a part of a key without "/", and is that of one member at a time: who
// joins last with an id replaces the one before, as a process does that was
// started again, and the one before is told by ErrReplaced. data is for the
// observers, an address for example; it is valid UTF-8. ctx bounds Join alone.
func (p *Presence) Join(ctx context.Context, id, data string) (*Membership, error) {
	if err := cmp.Or(p.checkID(id), checkText("the data", data)); err != nil {
		return nil, p.fail("Join", err)
	}
	m := &Membership{p: p, id: id, run: rand.Text(), data: data, dirty: true, done: make(chan struct{}), kick: make(chan struct{}, 1)}
	if p.roster != nil {
		m.node = p.roster.Instance()
	}
	ctx, end, err := p.call(ctx)
	if err != nil {
		return nil, p.fail("Join", err)
	}
	defer end()
	m.ctx, m.stop = context.WithCancel(p.ctx)
	p.mu.Lock()
	p.joined[m] = struct{}{}
	p.mu.Unlock()
	if err := m.write(ctx); err != nil {
		m.end(ErrReleased, "")
		undo, cancel := p.bounded()
		defer cancel()
		_ = m.remove(undo) // it may have been written; else it is gone after a TTL
		return nil, p.fail("Join", err)
	}
	p.wg.Go(m.live)
	p.wg.Go(m.follow)
	p.opts.Observer(Event{Name: p.name, ID: id, Type: Joined})
	return m, nil
}

func (p *Presence) checkID(id string) error {
	err := kv.CheckKey(p.names.member(id))
	if err == nil && strings.Contains(id, "/") {
		err = kv.ErrInvalidKey
	}
	if err != nil {
		return fmt.Errorf("the id %q, which must be a part of a key without %q: %w", id, "/", err)
	}
	return nil
}

// ID returns the id that it joined with.
func (m *Membership) ID() string { return m.id }

// Done returns a channel that is closed when the member has left or was replaced.
func (m *Membership) Done() <-chan struct{} { return m.done }

// Err returns nil while it is a member, then ErrReleased after Leave or Close, or
// ErrReplaced.
func (m *Membership) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Update replaces the member's data. If it fails, because the store is out of
// reach, others see the new data as soon as it can be written. It returns m's
// error when the membership is over.
func (m *Membership) Update(ctx context.Context, data string) error {
	m.mu.Lock()
	err := cmp.Or(m.err, checkText("the data", data))
	if err == nil {
		m.data, m.dirty = data, true
	}
	m.mu.Unlock()
	if err == nil {
		err = m.write(ctx)
	}
	return m.p.fail("Update", err)
}

// Leave ends the membership: others see at once that the member is gone. It
// returns nil if it was over before. If the store can't be reached until ctx
// ends, the membership is over all the same, and others take the member for gone
// after a TTL.
func (m *Membership) Leave(ctx context.Context) error {
	if !m.end(ErrReleased, Left) {
		return nil
	}
	return m.p.fail("Leave", m.remove(ctx))
}

// end reports whether the membership was not over yet.
func (m *Membership) end(err error, what EventType) bool {
	m.mu.Lock()
	over := m.err != nil
	if !over {
		m.err = err
		m.stop()
		close(m.done)
	}
	m.mu.Unlock()
	if over {
		return false
	}
	m.p.mu.Lock()
	delete(m.p.joined, m)
	m.p.mu.Unlock()
	if what != "" {
		m.p.opts.Observer(Event{Name: m.p.name, ID: m.id, Type: what})
	}
	return true
}

// live writes what is to be written until the membership is over.
func (m *Membership) live() {
	defer m.release()
	for next := m.p.opts.beatEvery(); m.await(next); {
		ctx, cancel := context.WithTimeout(m.ctx, m.p.opts.requestTimeout())
		err := m.write(ctx)
		cancel()
		next = m.p.opts.beatEvery()
		switch {
		case m.ctx.Err() != nil:
			return
		case errors.Is(err, ErrReplaced):
			m.end(ErrReplaced, Replaced)
			return
		case err != nil:
			m.p.opts.Logger.Warn("polykv: a member could not be kept", "name", m.p.name, "id", m.id, "error", err)
			next = m.p.opts.lookEvery()
		}
	}
}

// await waits until something is to be written, and reports false when the
// membership is over.
func (m *Membership) await(next time.Duration) bool {
	m.mu.Lock()
	lost := m.lost
	m.mu.Unlock()
	timer := time.NewTimer(next)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.kick:
	case <-lost: // once: another can't be had at once, perhaps
		m.mu.Lock()
		if m.lost == lost {
			m.lost = nil
		}
		m.mu.Unlock()
	case <-m.ctx.Done():
	}
	return m.ctx.Err() == nil
}

// release ends the lease of a membership that was replaced, whose record is not
// attached to it any more.
func (m *Membership) release() {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.lease == nil || !errors.Is(m.Err(), ErrReplaced) {
		return
	}
	if err := m.lease.Close(); err != nil && m.p.ctx.Err() == nil {
		m.p.opts.Logger.Warn("polykv: the lease of a member that was replaced could not be ended", "name", m.p.name, "id", m.id, "error", err)
	}
}

// write writes a beat, unless others know without, and the record, if that must
// be written.
func (m *Membership) write(ctx context.Context) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if err := m.show(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	dirty := m.dirty
	m.dirty = false
	m.mu.Unlock()
	if !dirty {
		return nil
	}
	err := m.put(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = m.known || err == nil
	m.dirty = m.dirty || err != nil
	return err
}

// show writes a beat, or sees to a lease, if there must be one.
func (m *Membership) show(ctx context.Context) (err error) {
	switch {
	case m.node != "":
		return nil
	case m.p.leases == nil, m.beating:
		m.beats++
		return m.p.client.CAS(ctx, m.p.names.beat(m.id), func(any) (any, bool, error) {
			return encode(beat{m.beats, m.run}), false, nil
		})
	case m.lease != nil && m.lease.Err() == nil:
		return nil
	}
	lease, err := m.p.leases.Grant(ctx, m.p.opts.TTL)
	if errors.Is(err, kv.ErrPermission) { // it may write keys, but have no leases
		m.beating, m.lease = true, nil
		return m.show(ctx)
	}
	if err != nil {
		return err
	}
	m.lease = lease
	m.mu.Lock()
	m.lost = m.lease.Done()
	m.mu.Unlock()
	m.again()
	return nil
}

// put writes the record, if nobody else has it who joined later.
func (m *Membership) put(ctx context.Context) error {
	key := m.p.names.member(m.id)
	cas := m.p.client.CAS
	if m.lease != nil {
		cas = m.lease.CAS
	}
	return cas(ctx, key, func(in any) (any, bool, error) {
		now, err := decode[record](key, in)
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case err != nil && m.known:
			return nil, false, err
		case m.known && in != nil && now.Run != m.run:
			return nil, false, ErrReplaced
		}
		return encode(record{Run: m.run, Data: m.data, Node: m.node, Leased: m.lease != nil}), false, nil
	})
}

// follow notices what others do with the record.
func (m *Membership) follow() {
	exists := false
	err := kv.Watch(m.ctx, m.p.client, kv.KeyRange(m.p.names.member(m.id)), func(e kv.Event) bool {
		switch e.Type {
		case kv.Put:
			exists = true
			now, err := decode[record](e.Key, e.Value)
			switch {
			case err != nil:
			case now.Run != m.run:
				m.end(ErrReplaced, Replaced)
				return false
			case m.detached(now):
				m.again()
			}
		case kv.Delete:
			exists = false
			m.again()
		case kv.Synced:
			if !exists {
				m.again()
			}
		}
		return true
	})
	if err != nil && m.ctx.Err() == nil {
		m.p.opts.Logger.Warn("polykv: the record of a member can't be watched any more", "name", m.p.name, "id", m.id, "error", err)
	}
}

// detached reports whether an observer asks if the lease keeps the record.
func (m *Membership) detached(now record) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost != nil && !now.Leased
}

// again writes the record of a member that others took for gone.
func (m *Membership) again() {
	m.mu.Lock()
	m.dirty = true
	m.mu.Unlock()
	wait.Signal(m.kick)
}

// remove removes what the membership has in the store.
func (m *Membership) remove(ctx context.Context) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.lease != nil {
		return m.lease.Close() // which takes the record away
	}
	return m.p.remove(ctx, m.id, m.run)
}

// remove removes the record and the beat of one run of a member.
func (p *Presence) remove(ctx context.Context, id, run string) error {
	var errs []error
	for _, key := range []string{p.names.member(id), p.names.beat(id)} {
		errs = append(errs, p.client.CAS(ctx, key, func(in any) (any, bool, error) {
			if now, err := decode[record](key, in); in == nil || err == nil && now.Run != run {
				return nil, false, nil
			}
			return kv.Remove, false, nil
		}))
	}
	return errors.Join(errs...)
}
