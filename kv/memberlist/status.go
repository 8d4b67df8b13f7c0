package memberlist

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/spread"
)

// Status is what a node knows of itself, its cluster and its keys, as the page
// of [Node.StatusHandler] shows it and as its JSON. Times are of this node's
// clock, durations in nanoseconds.
type Status struct {
	At        time.Time         `json:"at"`
	Node      NodeStatus        `json:"node"`
	Members   []MemberStatus    `json:"members"`
	Keys      KeysStatus        `json:"keys"`
	Key       *KeyStatus        `json:"key,omitempty"`        // the one that was asked for
	Tombs     []TombstoneStatus `json:"tombstones,omitempty"` // if they were asked for
	TombCount uint64            `json:"tombstone_count"`
	Queues    Queues            `json:"queues"`
	Lag       Lag               `json:"lag"`
	Counters  []Counter         `json:"counters"`
	Messages  []Message         `json:"messages"` // the newest first
}

// NodeStatus is the node itself.
type NodeStatus struct {
	Name      string    `json:"name"`
	Instance  string    `json:"instance"` // of this run
	Address   string    `json:"address"`
	Label     string    `json:"cluster_label"`
	Encrypted bool      `json:"encrypted"`
	Started   time.Time `json:"started"`
	Codecs    []string  `json:"codecs"`
	Problem   string    `json:"problem,omitempty"` // why changes don't travel
	Notes     []string  `json:"notes,omitempty"`   // see Node.Notes
}

// MemberStatus is one member.
type MemberStatus struct {
	Name    string        `json:"name"`
	Address string        `json:"address"`
	State   string        `json:"state"` // alive, suspect, failed or left
	Since   time.Time     `json:"since"`
	Started time.Time     `json:"started"`
	RTT     time.Duration `json:"rtt,omitempty"` // of the last answer to a probe of this node
	Acked   *time.Time    `json:"acked,omitempty"`
	Self    bool          `json:"self,omitempty"`
	ByTCP   bool          `json:"by_tcp,omitempty"` // it answers no datagrams, so changes and probes go to it by TCP
}

// KeysStatus is a page of the keys.
type KeysStatus struct {
	Total  int         `json:"total"` // of all keys
	Prefix string      `json:"prefix,omitempty"`
	After  string      `json:"after,omitempty"`
	Next   string      `json:"next,omitempty"` // After of the next page, if there is one
	Items  []KeyStatus `json:"items"`
}

// KeyStatus is one key. Value is the decoded value as JSON; in a list it is left
// out if it is large.
type KeyStatus struct {
	Key     string          `json:"key"`
	Codec   string          `json:"codec"`
	Bytes   int             `json:"bytes"`             // encoded
	Version string          `json:"version"`           // of the last write
	Written time.Time       `json:"written"`           // by that version
	Deleted string          `json:"deleted,omitempty"` // version of the last deletion before it
	Merges  bool            `json:"merges,omitempty"`  // instead of being replaced
	Content []string        `json:"content,omitempty"` // of a value that merges: names
	Value   json.RawMessage `json:"value,omitempty"`
	Problem string          `json:"problem,omitempty"` // why there is no value
}

// TombstoneStatus is a key that was deleted.
type TombstoneStatus struct {
	Key     string    `json:"key"`
	Codec   string    `json:"codec"`
	Version string    `json:"version"`
	Deleted time.Time `json:"deleted"`
}

// Counter is one count since the start of the node.
type Counter struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

// Queues is what waits or is under way.
type Queues = spread.Queues

// Lag is how long recent changes of other nodes were on their way, by the clocks
// of both nodes.
type Lag = spread.Lag

// Message is one of the messages that were sent or received last.
type Message = spread.Message

// Query says which keys a [Status] has.
type Query struct {
	Prefix     string // of the keys
	After      string // list those greater than it
	Limit      int    // how many; 0: 100
	Key        string // show this one too, its value whole
	Tombstones bool   // list deleted keys, up to Limit
}

const (
	defaultListed = 100
	maxListed     = 10_000
	inlineValue   = 2 << 10 // bytes up to which a value is shown in a list
)

// Status returns what the node knows. It takes time proportional to what is
// listed, and decodes values.
func (n *Node) Status(q Query) Status {
	if q.Limit <= 0 {
		q.Limit = defaultListed
	}
	q.Limit = min(q.Limit, maxListed)
	s := n.spread.Stats()
	st := Status{
		At: time.Now(), Node: n.nodeStatus(), Members: n.memberStatus(), Keys: n.keysStatus(q),
		TombCount: s.Counters["tombstones"], Queues: s.Queues, Lag: s.Lag,
		Counters: n.counters(), Messages: n.spread.Messages(),
	}
	if q.Key != "" {
		st.Key = n.keyStatus(q.Key)
	}
	if q.Tombstones {
		st.Tombs = n.tombstones(q.Limit)
	}
	return st
}

func (n *Node) nodeStatus() NodeStatus {
	self := n.net.Self()
	st := NodeStatus{
		Name: self.Name, Instance: fmt.Sprintf("%016x", self.Instance), Address: self.Addr.String(),
		Label: n.cfg.ClusterLabel, Encrypted: n.net.Encrypted(), Started: n.started, Codecs: n.store.Codecs(), Notes: n.Notes(),
	}
	if err := n.health(); err != nil {
		st.Problem = err.Error()
	}
	return st
}

func (n *Node) memberStatus() []MemberStatus {
	members := n.net.Members()
	all := make([]MemberStatus, 0, len(members))
	for _, m := range members {
		st := MemberStatus{
			Name: m.Name, Address: m.Addr.String(), State: string(m.State), Since: m.Since, Started: m.Started,
			RTT: m.RTT, Self: m.ID == n.net.Self().ID, ByTCP: m.ByStream,
		}
		if !m.Acked.IsZero() {
			acked := m.Acked
			st.Acked = &acked
		}
		all = append(all, st)
	}
	return all
}

// counters are the counts among the figures, named by what tells them apart.
func (n *Node) counters() []Counter {
	var all []Counter
	n.Figures(func(name, _ string, counter bool, value float64, labels ...string) {
		if !counter {
			return
		}
		words := []string{strings.TrimSuffix(strings.TrimPrefix(name, figurePrefix), countSuffix)}
		for i := 1; i < len(labels); i += 2 {
			words = append(words, labels[i])
		}
		all = append(all, Counter{strings.Join(words, " "), uint64(value)})
	})
	return all
}
