package migrate

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Status is where a migration stands.
type Status struct {
	Phase Phase  `json:"phase"`
	Now   string `json:"now"`  // the phase in a sentence
	Next  string `json:"next"` // what comes next

	Source StoreStatus `json:"source"`
	Target StoreStatus `json:"target"`

	// Clients are the coordinated clients whose heartbeats are in either store,
	// in the order of their start. Clients that are not coordinated can't be
	// seen.
	Clients []ClientStatus `json:"clients"`

	// Live is how many of them are not gone, Behind how many of those don't use
	// the store that is primary now.
	Live   int `json:"live"`
	Behind int `json:"behind"`

	// Backlog is how many keys wait to be mirrored in all live clients, and Lag
	// how long the oldest of them has waited.
	Backlog int           `json:"backlog"`
	Lag     time.Duration `json:"lag_ns"`
}

// StoreStatus is what was found in one store.
type StoreStatus struct {
	Name    string  `json:"name"`
	Record  *Record `json:"record"`            // nil: there is none
	Error   string  `json:"error,omitempty"`   // why it could not be read
	Clients int     `json:"clients,omitempty"` // live ones that use it as primary
}

// ClientStatus is one coordinated client.
type ClientStatus struct {
	Heartbeat
	Stores []string      `json:"stores"` // where its heartbeat was found
	Age    time.Duration `json:"age_ns"` // of the heartbeat
	Gone   bool          `json:"gone"`   // it is older than a minute

	// ByClock says that Age compares the client's clock with this machine's: this
	// Migration has not seen the heartbeat long enough to tell by itself.
	ByClock bool `json:"by_clock"`
}

// tracker remembers when heartbeats were seen to change, which tells who lives
// without comparing clocks.
type tracker struct {
	mu   sync.Mutex
	seen map[string]sighting
}

type sighting struct {
	beat  uint64
	since time.Time // of this machine: when beat was seen first
	moved bool      // it was seen to change
}

// age returns how old h is, and whether that had to be told by its own clock.
func (t *tracker) age(h Heartbeat, now time.Time) (age time.Duration, byClock bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = map[string]sighting{}
	}
	s, known := t.seen[h.Instance]
	if !known || s.beat != h.Beat {
		s = sighting{beat: h.Beat, since: now, moved: known}
		t.seen[h.Instance] = s
	}
	own := now.Sub(s.since)
	if s.moved || own >= side.GoneAfter {
		return own, false
	}
	return max(now.Sub(h.Seen), own), true
}

// Status reads both records and all heartbeats and changes nothing. A store
// that can't be read is part of the answer; if neither can, that is the error.
func (m *Migration) Status(ctx context.Context) (Status, error) {
	var stores [2]StoreStatus
	var errs [2]error
	byInstance := map[string]*ClientStatus{}
	v := m.readBoth(ctx, &errs)
	for r, s := range m.sides {
		stores[r].Name = s.Name()
		if errs[r] == nil {
			errs[r] = m.heartbeats(ctx, s, byInstance)
		}
		if errs[r] != nil {
			stores[r].Error = errs[r].Error()
		}
		if v.versions[r] != 0 {
			stores[r].Record = &v.records[r]
		}
	}
	if errs[source] != nil && errs[target] != nil {
		return Status{}, errs[source]
	}
	st := Status{Source: stores[source], Target: stores[target], Clients: []ClientStatus{}}
	st.Phase = v.phase()
	st.Now, st.Next = st.Phase.Describe(stores[source].Name, stores[target].Name)
	if errs[source] != nil || errs[target] != nil {
		st.Phase, st.Now, st.Next = Unknown, "one of the stores can't be read", "make both stores reachable and look again"
	}
	m.addClients(&st, byInstance, &v)
	return st, nil
}

func (m *Migration) heartbeats(ctx context.Context, s *side.Side, into map[string]*ClientStatus) error {
	beats, err := s.Heartbeats(ctx)
	for _, h := range beats {
		c := into[h.Instance]
		if c == nil {
			c = &ClientStatus{Heartbeat: h}
			into[h.Instance] = c
		}
		if h.Beat > c.Beat {
			c.Heartbeat = h
		}
		c.Stores = append(c.Stores, s.Name())
	}
	return err
}

func (m *Migration) addClients(st *Status, byInstance map[string]*ClientStatus, v *view) {
	now := time.Now()
	primary := m.primary(v)
	for _, c := range byInstance {
		c.Age, c.ByClock = m.tracker.age(c.Heartbeat, now)
		c.Gone = c.Age >= side.GoneAfter
		st.Clients = append(st.Clients, *c)
		if c.Gone {
			continue
		}
		st.Live++
		st.Backlog += c.Backlog
		st.Lag = max(st.Lag, c.Oldest)
		if primary != "" && c.Primary != primary {
			st.Behind++
		}
		for _, s := range []*StoreStatus{&st.Source, &st.Target} {
			if s.Name == c.Primary {
				s.Clients++
			}
		}
	}
	slices.SortFunc(st.Clients, func(a, b ClientStatus) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Instance, b.Instance))
	})
}

// primary is the name of the store that is primary, "" if none is.
func (m *Migration) primary(v *view) string {
	for _, r := range []role{source, target} {
		if v.state(r) == side.Primary {
			return m.sides[r].Name()
		}
	}
	return ""
}

// forget removes the heartbeats of clients that are gone, which a client that
// crashed can't do itself. One that lives after all writes its own again.
func (m *Migration) forget(ctx context.Context) error {
	st, err := m.Status(ctx)
	if err != nil {
		return err
	}
	for _, c := range st.Clients {
		for _, s := range m.sides {
			if c.Gone && slices.Contains(c.Stores, s.Name()) {
				if err := s.RemoveHeartbeat(ctx, c.Instance); err != nil && !isAny(err, kv.ErrPermission) {
					return err
				}
			}
		}
	}
	return nil
}
