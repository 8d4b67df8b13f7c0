package memberlist

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// simMap is the key of the Map whose entries the plans write too; they are
// called simMap + "/" + entry.
const simMap = "map"

// operation is one write or deletion that a plan made, and who holds it.
type operation struct {
	key     string
	value   string // "": a deletion
	version Version
	saw     Version             // what it replaced
	past    map[*operation]bool // what its node had, or had had, of the key
	holders map[uint64]bool
	made    time.Time
	apart   time.Time // since when its process and some other one hadn't been equal when it was made
	settled time.Time // when all processes had it; zero: not yet
	wild    bool      // made while the node's clock was wrong: it may be refused, and get another version
}

func (o *operation) String() string {
	what := "put"
	if o.value == "" {
		what = "delete"
	}
	return fmt.Sprintf("%s %s at %v (saw %v, holders %d)", what, o.key, o.version, o.saw, len(o.holders))
}

// lost reports whether all processes that ever held it have crashed.
func (o *operation) lost() bool { return len(o.holders) == 0 }

// history is everything that a plan did.
type history struct {
	ops   []*operation
	equal map[[2]uint64]time.Time // when two processes were last seen to hold the same
	wrong []string
}

// look notes who holds what: who has that state or a later one, and who is
// equal to one that holds it.
func (h *history) look(c *simCluster) {
	groups := map[string][]*simProcess{}
	for _, s := range c.slots {
		if s.node != nil {
			roots := fmt.Sprint(s.node.store.Roots())
			if s.node.store.Health() != nil { // it leaves something out
				roots += s.name
			}
			groups[roots] = append(groups[roots], s.node)
		}
	}
	for _, nodes := range groups {
		var ids []uint64
		for _, n := range nodes {
			for _, other := range ids {
				h.equal[pair(n.instance, other)] = time.Now()
			}
			ids = append(ids, n.instance)
		}
		for _, o := range h.ops {
			held := slices.ContainsFunc(ids, func(id uint64) bool { return o.holders[id] })
			if !held && !o.lost() {
				e, v := simState(nodes[0], o.key)
				held = h.isIn(o, e, v)
			}
			for _, id := range ids {
				if held {
					o.holders[id] = true
				}
			}
		}
	}
	for _, o := range h.ops {
		all := !slices.ContainsFunc(c.slots, func(s *simSlot) bool { return s.node != nil && !o.holders[s.node.instance] })
		if all && o.settled.IsZero() {
			o.settled = time.Now()
		}
	}
}

func pair(a, b uint64) [2]uint64 { return [2]uint64{min(a, b), max(a, b)} }

// apart is since when a process and some other one haven't been equal; zero: they
// never were.
func (h *history) apart(c *simCluster, instance uint64) time.Time {
	since := time.Now()
	for _, s := range c.slots {
		if s.node == nil || s.node.instance == instance {
			continue
		}
		if at := h.equal[pair(instance, s.node.instance)]; at.Before(since) {
			since = at
		}
	}
	return since
}

// isIn reports whether a node whose newest deletion and state of a key are e and
// v has, or had, what o wrote.
func (h *history) isIn(o *operation, e, v Version) bool {
	return slices.ContainsFunc(h.ops, func(p *operation) bool {
		return p.key == o.key && (p.version == e || p.version == v) && (p == o || p.past[o])
	})
}

// before returns what a process has, or had, of a key.
func (h *history) before(n *simProcess, key string) map[*operation]bool {
	past := map[*operation]bool{}
	e, v := simState(n, key)
	for _, o := range h.ops {
		if o.key == key && (o.holders[n.instance] || h.isIn(o, e, v)) {
			past[o] = true
		}
	}
	return past
}

// handedOn notes what a process that has left had, and nobody else has, although
// its Close said that it was handed on.
func (h *history) handedOn(c *simCluster, n *simProcess) {
	for _, o := range h.ops {
		e, v := simState(n, o.key)
		has := o.version == e || o.version == v
		if len(o.holders) == 1 && o.holders[n.instance] && has && !h.beaten(c, o) && (o.value != "" || h.resists(c, o)) {
			h.wrong = append(h.wrong, "nobody has what left with its process: "+o.String())
		}
	}
}

// resists reports whether some process still has what o deleted, and no other one
// would remove it.
func (h *history) resists(c *simCluster, o *operation) bool {
	return slices.ContainsFunc(h.ops, func(p *operation) bool {
		has := func(s *simSlot) bool {
			if s.node == nil {
				return false
			}
			_, v := simState(s.node, o.key)
			return v == p.version
		}
		removes := func(s *simSlot) bool {
			if s.node == nil || has(s) {
				return false
			}
			seen := s.node.store.Context() // nothing until its clock is right: then the outcome tells
			return len(seen.Marks) == 0 || seen.Covers(p.version)
		}
		return p.key == o.key && p.value != "" && o.past[p] && slices.ContainsFunc(c.slots, has) && !slices.ContainsFunc(c.slots, removes)
	})
}

// beaten reports whether some process has of the key what o's had not seen.
func (h *history) beaten(c *simCluster, o *operation) bool {
	return slices.ContainsFunc(c.slots, func(s *simSlot) bool {
		if s.node == nil {
			return false
		}
		e, v := simState(s.node, o.key)
		return slices.ContainsFunc(h.ops, func(p *operation) bool {
			return p.key == o.key && (p.version == e || p.version == v) && !o.past[p]
		})
	})
}

// crashed notes that a process is gone with what only it had.
func (h *history) crashed(instance uint64) {
	for _, o := range h.ops {
		delete(o.holders, instance)
	}
}

// simState returns the versions of the newest deletion and of the state of a
// key, or of an entry of the map.
func simState(n *simProcess, key string) (e, v Version) {
	entry, ok := strings.CutPrefix(key, simMap+"/")
	if !ok {
		if r := n.store.Get(key); r != nil {
			return r.Versions()
		}
		for _, r := range n.store.Tombstones() {
			if r.Key() == key {
				return r.Versions()
			}
		}
		return e, v
	}
	r := n.store.Get(simMap)
	if r == nil {
		return e, v
	}
	m, _ := r.Mergeable().(*Map[string, int])
	switch p := m.part(entry); {
	case p == nil:
	case p.deleted:
		e = p.version
	default:
		v = p.version
	}
	return e, v
}

// write makes one write, or deletion if value is empty, on a slot, unless its
// process can't.
func (c *simCluster) write(i int, key, value string) error {
	s := c.slots[i]
	if s.node == nil || s.frozen {
		return nil
	}
	_, saw := simState(s.node, key)
	if value == "" && saw.IsZero() {
		return nil // there is nothing to delete
	}
	past := c.history.before(s.node, key)
	if err := c.carryOut(s, key, value); err != nil {
		return fmt.Errorf("%s: write %s: %w", s.name, key, err)
	}
	e, v := simState(s.node, key)
	o := &operation{
		key: key, value: value, version: v, saw: saw, past: past,
		holders: map[uint64]bool{s.node.instance: true}, made: time.Now(), apart: c.history.apart(c, s.node.instance),
	}
	if value == "" {
		o.version = e
	}
	o.wild = time.Since(o.version.Time()).Abs() > time.Minute // because of a clock that is wrong, or was
	c.history.ops = append(c.history.ops, o)
	return nil
}

func (c *simCluster) carryOut(s *simSlot, key, value string) error {
	ctx := context.Background()
	entry, isEntry := strings.CutPrefix(key, simMap+"/")
	switch {
	case isEntry:
		return s.maps.CAS(ctx, simMap, func(in any) (any, bool, error) {
			m, _ := in.(*Map[string, int])
			if m == nil {
				m = NewMap[string, int]()
			}
			if value == "" {
				m.Delete(entry)
			} else {
				m.Set(entry, len(c.history.ops)+1)
			}
			return m, false, nil
		})
	case value == "":
		return s.texts.Delete(ctx, key)
	}
	return s.texts.CAS(ctx, key, func(any) (any, bool, error) { return value, false, nil })
}

// check says what is wrong with what the nodes hold at last. The nodes agree.
func (h *history) check(n *simProcess, stepped bool) []string {
	wrong := slices.Clone(h.wrong)
	byKey := map[string][]*operation{}
	for _, o := range h.ops {
		byKey[o.key] = append(byKey[o.key], o)
	}
	for key, ops := range byKey {
		if slices.ContainsFunc(ops, func(o *operation) bool { return o.wild }) {
			continue
		}
		_, v := simState(n, key)
		if problem := judge(ops, v, stepped); problem != "" {
			var all []string
			for _, o := range ops {
				all = append(all, o.String())
			}
			wrong = append(wrong, fmt.Sprintf("%s: %s: it has %v; %s", key, problem, v, strings.Join(all, ", ")))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// judge says what is wrong if a key ends as v, zero: absent. A write of a process
// that wasn't equal with another one for longer than deletions are remembered may
// survive a deletion that had not seen it, and so may that of a process that began
// apart, or any if that deleted it; so may any if a clock made a node forget.
func judge(ops []*operation, v Version, stepped bool) string {
	late := stepped
	var last *operation // whose state it has
	if i := slices.IndexFunc(ops, func(o *operation) bool { return o.value != "" && o.version == v }); i >= 0 {
		last = ops[i]
		late = late || last.settled.IsZero() || last.settled.Sub(last.apart) > simTolerance*9/10
	}
	for _, o := range ops {
		if o.lost() {
			continue
		}
		if o.value == "" && !v.IsZero() && o.version.After(v) && (o.past[last] || !late && !o.apart.IsZero()) {
			return "what was deleted is back"
		}
		if o.value != "" && o.version.After(v) && !deletedUnseen(ops, o) {
			return "what was written is lost"
		}
	}
	return ""
}

// deletedUnseen reports whether there is a deletion that a write doesn't know of,
// and which therefore wins over it, be it earlier or later.
func deletedUnseen(ops []*operation, write *operation) bool {
	return slices.ContainsFunc(ops, func(o *operation) bool { return o.value == "" && !write.past[o] })
}
