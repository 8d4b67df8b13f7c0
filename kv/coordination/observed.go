package coordination

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/polykv/polykv/kv"
)

// observed is a member as an observer knows it.
type observed struct {
	record    record
	exists    bool      // it has a record
	beat      string    // as stored; empty: it has none
	since     time.Time // since when the beat stands still, as far as this process knows
	confirmed time.Time // when a look into the store confirmed that; zero: none did
	gone      bool      // it is taken for dead
}

// moved notes a sign of life, or that none could be seen.
func (s *observed) moved() { s.since, s.confirmed = time.Now(), time.Time{} }

// follow begins to follow the members, once.
func (p *Presence) follow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.following || p.ctx.Err() != nil {
		return
	}
	p.following = true
	p.wg.Go(func() { p.watch(p.client, p.names, p.take) })
	p.wg.Go(p.observe)
}

// told tells of a change of the members; p.mu is held.
func (p *Presence) told() {
	p.changes++
	p.tell()
}

// take notes an event, and tells of it if others may be there than before; p.mu is
// held.
func (p *Presence) take(e kv.Event) {
	member, isRecord := ownPart(e.Key, p.names.members())
	of, isBeat := ownPart(e.Key, p.names.beats())
	switch {
	case e.Type == kv.Interrupted:
		p.synced = false
	case e.Type == kv.Synced:
		p.synced, p.ready = true, true
		p.unseen()
		p.told()
	case isRecord && p.takeRecord(member, e), isBeat && p.takeBeat(of, e):
		p.told()
	}
}

// unseen notes that what happened up to now nobody saw; p.mu is held.
func (p *Presence) unseen() {
	for _, s := range p.seen {
		s.moved()
	}
}

func (p *Presence) observed(id string) *observed {
	s := p.seen[id]
	if s == nil {
		s = &observed{since: time.Now()}
		p.seen[id] = s
	}
	return s
}

func (p *Presence) takeRecord(id string, e kv.Event) bool {
	now, err := decode[record](e.Key, e.Value)
	if err != nil || e.Type == kv.Put && now.Run == "" { // that is no member's
		p.opts.Logger.Warn("polykv: the record of a member can't be read", "name", p.name, "id", id, "error", err)
		return false
	}
	s := p.observed(id)
	s.exists = e.Type == kv.Put
	switch {
	case s.record.Run != now.Run: // a new one
		s.gone = false
		s.moved()
	case s.record.Leased || now.Leased: // asked, or its answer
		s.moved()
	}
	s.record = now
	p.drop(id, s)
	return true
}

func (p *Presence) takeBeat(id string, e kv.Event) bool {
	s := p.observed(id)
	stored, _ := e.Value.([]byte)
	back := s.gone && len(stored) > 0
	s.beat = string(stored)
	s.moved()
	if back {
		s.gone = false
	}
	p.drop(id, s)
	return back
}

// drop forgets one of whom nothing is left.
func (p *Presence) drop(id string, s *observed) {
	if !s.exists && s.beat == "" {
		delete(p.seen, id)
	}
}

// observe looks for members that are gone.
func (p *Presence) observe() {
	every := p.opts.lookEvery()
	if p.roster != nil {
		every = min(every, rosterEvery)
	}
	for {
		var peers <-chan struct{}
		if p.roster != nil {
			peers = p.roster.PeersChanged()
		}
		began := time.Now()
		if p.pause(p.ctx, peers, every) != nil {
			return
		}
		p.mu.Lock()
		if time.Since(began) > 3*every && time.Since(began) > p.opts.lookEvery() {
			p.unseen() // this process was stopped itself
		}
		ids := slices.Collect(maps.Keys(p.seen))
		synced := p.synced
		p.mu.Unlock()
		for _, id := range ids {
			if synced {
				p.look(id)
			}
		}
	}
}

// rosterEvery is how often members are looked up that the store knows of: that
// costs nothing.
const rosterEvery = 200 * time.Millisecond

// look finds out whether a member is there.
func (p *Presence) look(id string) {
	p.mu.Lock()
	s := p.seen[id]
	if s == nil || !s.exists {
		p.mu.Unlock()
		return
	}
	now := *s
	p.mu.Unlock()
	if now.record.Leased {
		if p.leases == nil {
			p.ask(id, now)
		}
		return // the store takes it away
	}
	if p.roster != nil && now.record.Node != "" {
		if there, known := p.roster.Standing(now.record.Node); known {
			p.judge(id, now, !there)
			return
		}
	}
	if version, dead := p.dead(id, now); dead && p.judge(id, now, true) {
		p.reap(id, now.record.Run, version)
	}
}

// ask finds out whether a lease still keeps a record that was seen for a TTL, for an
// observer whose client has no leases. That is one of two stores, into the second
// of which records are copied, and stay, while leases end with the first. A
// member that is alive attaches its record again; one that doesn't answer is
// told by its beat, which it doesn't have.
func (p *Presence) ask(id string, was observed) {
	if time.Since(was.since) < p.opts.TTL {
		return
	}
	ctx, cancel := p.bounded()
	defer cancel()
	key := p.names.member(id)
	err := p.client.CAS(ctx, key, func(in any) (any, bool, error) {
		now, err := decode[record](key, in)
		if err != nil || in == nil || now.Run != was.record.Run || !now.Leased {
			return nil, false, err
		}
		now.Leased = false
		return encode(now), false, nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.seen[id]; s != nil {
		s.moved()
	}
	if err != nil && p.ctx.Err() == nil {
		p.opts.Logger.Warn("polykv: a member could not be asked whether its lease keeps it", "name", p.name, "id", id, "error", err)
	}
}

// judge notes whether a member is gone, if it is still as it was seen.
func (p *Presence) judge(id string, was observed, gone bool) (same bool) {
	p.mu.Lock()
	s := p.seen[id]
	same = s != nil && s.exists && s.record.Run == was.record.Run && s.beat == was.beat
	told := same && s.gone != gone
	if same {
		s.gone = gone
		if !gone {
			s.moved()
		}
	}
	if told {
		p.told()
	}
	p.mu.Unlock()
	if told && gone {
		p.opts.Observer(Event{Name: p.name, ID: id, Type: Gone})
	}
	return same
}

// dead reports whether a member's beat stood still for a TTL and still does, at
// two looks into the store that are a beat apart: a store that was away itself
// answers the first one before members could write again. version is the beat's.
func (p *Presence) dead(id string, was observed) (version kv.Version, dead bool) {
	if time.Since(was.since) < p.opts.TTL || !was.confirmed.IsZero() && time.Since(was.confirmed) < p.opts.beatEvery() {
		return 0, false
	}
	stored, version, err := p.read(p.names.beat(id))
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[id]
	switch {
	case s == nil || s.since != was.since:
		return 0, false
	case err != nil, stored != was.beat:
		s.moved() // the store was away, for others too; or the watch lags
		return 0, false
	case was.confirmed.IsZero():
		s.confirmed = time.Now()
		return 0, false
	}
	return version, true
}

// read reads a beat as the store has it now.
func (p *Presence) read(key string) (string, kv.Version, error) {
	ctx, cancel := p.bounded()
	defer cancel()
	if !kv.Linearizable(p.client) { // what is read is only this process's copy, which must be in touch with others
		if err := kv.Ping(ctx, p.client); err != nil {
			return "", 0, err
		}
	}
	var value any
	var version kv.Version
	var err error
	if p.versions != nil {
		value, version, err = p.versions.GetVersion(ctx, key)
	} else {
		value, err = p.client.Get(ctx, key)
	}
	stored, _ := value.([]byte)
	return string(stored), version, err
}

// reap removes what a dead member left, if it is still the same and, where the
// store can tell, did not beat since. Whoever is alive after all joins again.
func (p *Presence) reap(id, run string, version kv.Version) {
	ctx, cancel := p.bounded()
	defer cancel()
	if p.guarded != nil && version != 0 {
		err := p.guarded.DeleteGuarded(ctx, p.names.member(id), kv.Guard{Key: p.names.beat(id), Version: version})
		if errors.Is(err, kv.ErrFenced) {
			return
		}
	}
	if err := p.remove(ctx, id, run); err != nil && p.ctx.Err() == nil {
		p.opts.Logger.Warn("polykv: what a dead member left could not be removed", "name", p.name, "id", id, "error", err)
	}
}
