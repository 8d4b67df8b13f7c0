package memberlist

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// simMap is the key of the Map whose entries the plans write too; they are
// called simMap + "/" + entry.
const simMap = "map"

// operation is one write or deletion that a plan made, and who holds it.
type operation struct {
	key     string
	value   string // "": a deletion
	version Version
	saw     Version // of a deletion: what it removed
	holders map[uint64]bool
	wild    bool // made while the node's clock was wrong: it may be refused, and get another version
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
	ops     []*operation
	crashes map[uint64]bool
}

// look notes who holds what: who has that state or a later one, and who is
// equal to one that holds it.
func (h *history) look(c *simCluster) {
	groups := map[string][]*Node{}
	for _, s := range c.slots {
		if s.node != nil {
			roots := fmt.Sprint(s.node.store.Roots())
			groups[roots] = append(groups[roots], s.node)
		}
	}
	for _, nodes := range groups {
		var ids []uint64
		for _, n := range nodes {
			ids = append(ids, n.net.Self().Instance)
		}
		for _, o := range h.ops {
			held := slices.ContainsFunc(ids, func(id uint64) bool { return o.holders[id] })
			if !held && !o.lost() {
				e, v := simState(nodes[0], o.key)
				held = o.isIn(e, v)
			}
			for _, id := range ids {
				if held {
					o.holders[id] = true
				}
			}
		}
	}
}

func (o *operation) isIn(e, v Version) bool {
	return !o.version.After(e) || !v.IsZero() && !o.version.After(v)
}

// crashed notes that a process is gone with what only it had.
func (h *history) crashed(instance uint64) {
	for _, o := range h.ops {
		delete(o.holders, instance)
	}
}

// handedOver notes that a process is gone that handed on what it had.
func (h *history) handedOver(uint64) {}

// simState returns the versions of the newest deletion and of the state of a
// key, or of an entry of the map.
func simState(n *Node, key string) (e, v Version) {
	entry, ok := strings.CutPrefix(key, simMap+"/")
	if !ok {
		entry = ""
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
	if err := c.carryOut(s, key, value); err != nil {
		return fmt.Errorf("%s: write %s: %w", s.name, key, err)
	}
	e, v := simState(s.node, key)
	o := &operation{
		key: key, value: value, version: v, saw: saw,
		holders: map[uint64]bool{s.node.net.Self().Instance: true}, wild: s.clock.step != 0,
	}
	if value == "" {
		o.version = e
	}
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
func (h *history) check(n *Node, parted bool) (wrong []string) {
	byKey := map[string][]*operation{}
	for _, o := range h.ops {
		byKey[o.key] = append(byKey[o.key], o)
	}
	for key, ops := range byKey {
		if slices.ContainsFunc(ops, func(o *operation) bool { return o.wild }) {
			continue
		}
		_, v := simState(n, key)
		if problem := judge(ops, v, parted); problem != "" {
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

// judge says what is wrong if a key ends as v, zero: absent. After a partition
// that was longer than deletions are remembered, a write may survive a deletion
// that had not seen it.
func judge(ops []*operation, v Version, parted bool) string {
	for _, o := range ops {
		if o.lost() {
			continue
		}
		if o.value == "" && !v.IsZero() && o.version.After(v) && (!parted || !v.After(o.saw)) {
			return "what was deleted is back"
		}
		if o.value != "" && o.version.After(v) && !deletedAfter(ops, o.version) {
			return "what was written is lost"
		}
	}
	return ""
}

func deletedAfter(ops []*operation, v Version) bool {
	return slices.ContainsFunc(ops, func(o *operation) bool { return o.value == "" && o.version.After(v) })
}

var _ = state.Version{}
