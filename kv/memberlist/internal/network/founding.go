package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// A founding tells clusters without a label apart. Each node begins with one of
// its own, and nodes that meet take over the older one, so that a cluster has
// one. Once it has settled, two that differ are clusters that have nothing to do
// with each other, such as after an address has been given to another machine:
// they don't become one.
//
// Nodes with a label have none: the label says it.
type founding struct {
	id      uint64    // random; 0: none
	at      time.Time // by the founder's clock, in milliseconds; it only decides which one stays
	settled bool      // others had time to be met
}

// foundingSize is how many bytes of metadata a founding has.
const foundingSize = 8 + 8 + 1

func (f founding) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = binary.BigEndian.AppendUint64(b, uint64(f.at.UnixMilli()))
	if f.settled {
		return append(b, 1)
	}
	return append(b, 0)
}

// decodeFounding returns the zero founding if there is none.
func decodeFounding(b []byte) founding {
	if len(b) < foundingSize {
		return founding{}
	}
	return founding{
		id: binary.BigEndian.Uint64(b), at: time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:]))), settled: b[16] != 0,
	}
}

// before says which of two different ones stays when nodes meet.
func (f founding) before(other founding) bool {
	switch {
	case f.settled != other.settled:
		return f.settled
	case !f.at.Equal(other.at):
		return f.at.Before(other.at)
	}
	return f.id < other.id
}

var errForeign = errors.New("it belongs to another cluster without a label: give each cluster a cluster_label, or both the same if they are to be one")

// found makes a new founding. m.mu is held, or m is not yet shared.
func (m *members) found(now time.Time) {
	m.founding, m.founded = founding{id: RandomInstance(), at: now.Truncate(time.Millisecond)}, now
}

// foreign reports whether a node is of another cluster. m.mu is held.
func (m *members) foreign(theirs founding) bool {
	own := m.founding
	return !m.labelled() && own.settled && theirs.settled && theirs.id != 0 && theirs.id != own.id
}

// young reports whether this node joins whatever cluster it meets.
func (m *members) young() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.labelled() && !m.founding.settled
}

// adopt takes over what a node that was met has, if that stays. m.mu is held.
func (m *members) adopt(theirs founding) {
	own := m.founding
	switch {
	case m.labelled() || theirs.id == 0 || (own.settled && theirs.settled):
	case theirs.id == own.id:
		m.founding.settled = own.settled || theirs.settled
	case theirs.before(own):
		m.founding = theirs
	}
	if m.founding != own {
		m.told = false
		m.changed()
	}
}

// settle lets the founding settle once others had time to be met. A node that
// has been alone for as long, and shouldn't be, has one that may give way again:
// should all others have been started anew meanwhile, they have another one.
func (m *members) settle(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	alone := m.alive == 0 && (m.everJoined || m.expected)
	switch {
	case !alone:
		m.aloneSince = time.Time{}
	case m.aloneSince.IsZero():
		m.aloneSince = now
	}
	switch {
	case alone && m.founding.settled && now.Sub(m.aloneSince) >= m.cfg.Settle:
		m.found(now)
	case !alone && !m.founding.settled && now.Sub(m.founded) >= m.cfg.Settle:
		m.founding.settled = true
	default:
		return
	}
	m.told = false
	m.changed()
}

// meta is what others are told of this node.
func (m *members) meta() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	meta := encodeMeta(m.started)
	if !m.labelled() {
		meta = m.founding.append(meta)
	}
	return meta
}

// tell has memberlist fetch the metadata anew if it has changed.
func (n *Network) tell() {
	n.members.mu.Lock()
	told := n.members.told
	n.members.told = true
	n.members.mu.Unlock()
	if !told {
		_ = n.list.UpdateNode(time.Nanosecond) // only waits for the others to hear it
	}
}

// NotifyMerge is called before the nodes of another list are taken in, on both
// sides.
func (m *members) NotifyMerge(nodes []*memberlist.Node) error {
	m.mu.Lock()
	var other *memberlist.Node
	for _, node := range nodes {
		if node.State != memberlist.StateAlive && node.State != memberlist.StateSuspect || len(node.Meta) < metaSize {
			continue
		}
		theirs := decodeFounding(node.Meta[metaSize:])
		if theirs.id == m.founding.id { // some of both: whoever isn't is refused by itself
			other = nil
			break
		}
		if m.foreign(theirs) {
			other = node
		}
	}
	if other == nil {
		m.mu.Unlock()
		return nil
	}
	m.stranger(other)
	m.mu.Unlock()
	m.rejects.add(CauseCluster, addrOf(other), fmt.Sprintf("node %.200q: %v", other.Name, errForeign))
	return errForeign
}

// stranger notes that a node of another cluster was met. m.mu is held.
func (m *members) stranger(node *memberlist.Node) {
	m.foreignAt, m.foreignAddr = time.Now(), addrOf(node)
	m.changed()
}

func addrOf(node *memberlist.Node) string {
	return net.JoinHostPort(node.Addr.String(), strconv.Itoa(int(node.Port)))
}

// foreignFor is how long Health tells of another cluster after it was met.
const foreignFor = 10 * time.Minute

// warnUnlabelled reports, once, that others have been joined without a label.
func (m *members) warnUnlabelled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.warned || !m.everJoined || m.labelled() {
		return false
	}
	m.warned = true
	return true
}
