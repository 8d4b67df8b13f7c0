package migrate

import (
	"cmp"
	"context"
	"fmt"
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

	// Live is how many of them are not late, Behind how many of those don't use
	// the store that is primary now.
	Live   int `json:"live"`
	Behind int `json:"behind"`

	// Ready says that nothing that can be seen here stands in the way of a
	// cutover or, after one, of a roll-back; Blockers say what does.
	Ready    bool      `json:"ready"`
	Blockers []Blocker `json:"blockers"`

	// Writable says that a store is primary, so that clients can write.
	Writable bool `json:"writable"`

	// Problem is what has to be put right before any command works; "":
	// nothing.
	Problem string `json:"problem,omitempty"`

	// Waiting is how many calls wait for a store to be primary.
	Waiting int `json:"waiting"`

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
	Late   bool          `json:"late"`   // it is older than it should be: the client crashed, or is cut off

	// Trouble is why the client is not ready for a cutover; "": it is.
	Trouble string `json:"trouble,omitempty"`

	// ByClock says that Age compares the client's clock with this machine's: this
	// Migration has not seen the heartbeat long enough to tell by itself.
	ByClock bool `json:"by_clock"`
}

// lateAfter is how old a heartbeat is that should have been followed by two
// others.
const lateAfter = 5 * side.HeartbeatEvery / 2

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

// storeTimeout bounds how long one store may take to show its record.
const storeTimeout = 5 * time.Second

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
			errs[r] = heartbeats(ctx, s, byInstance)
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
	st := Status{Source: stores[source], Target: stores[target], Clients: []ClientStatus{}, Blockers: []Blocker{}}
	st.Phase = v.phase()
	st.Now, st.Next = st.Phase.Describe(stores[source].Name, stores[target].Name)
	st.Writable = m.primary(&v) != ""
	switch err := v.check(start, m.names()); {
	case errs[source] != nil || errs[target] != nil:
		lost, left := st.Source, st.Target
		if errs[target] != nil {
			lost, left = st.Target, st.Source
		}
		st.Phase = Unknown
		st.Now, st.Next = describeLost(lost.Name, left.Name, left.Record)
	case err != nil:
		st.Problem = err.Error()
	}
	m.addClients(&st, byInstance, &v)
	return st, nil
}

// describeLost says what is known while a store can't be read.
func describeLost(lost, left string, record *Record) (now, next string) {
	state := "without a record"
	if record != nil {
		state = string(record.State)
	}
	now = fmt.Sprintf("store %q can't be read, store %q is %s", lost, left, state)
	switch {
	case record == nil || record.State == side.Retired:
		next = "make both stores reachable and look again"
	case record.State == side.Primary:
		next = fmt.Sprintf("clients write to store %q; make store %q reachable and look again", left, lost)
	case mayUnseal(*record):
		now += ", and writes wait"
		next = fmt.Sprintf(`run "polykv migrate abort": it makes store %q primary again without the other one`, left)
	default:
		next = fmt.Sprintf(`make store %q reachable and look again; if it is lost for good, see "polykv migrate force --help"`, lost)
	}
	return now, next
}

func heartbeats(ctx context.Context, s *side.Side, into map[string]*ClientStatus) error {
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

// sorted returns the clients in the order of their start, with what their
// heartbeats tell of their age.
func (t *tracker) sorted(byInstance map[string]*ClientStatus) []ClientStatus {
	now := time.Now()
	all := make([]ClientStatus, 0, len(byInstance))
	for _, c := range byInstance {
		c.Age, c.ByClock = t.age(c.Heartbeat, now)
		c.Gone, c.Late = c.Age >= side.GoneAfter, c.Age >= lateAfter
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b ClientStatus) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Instance, b.Instance))
	})
	return all
}

func (m *Migration) addClients(st *Status, byInstance map[string]*ClientStatus, v *view) {
	primary := m.primary(v)
	st.Clients = m.tracker.sorted(byInstance)
	for i := range st.Clients {
		c := &st.Clients[i]
		if c.Late {
			continue
		}
		st.Live++
		st.Backlog += c.Backlog
		st.Waiting += c.Waiting
		st.Lag = max(st.Lag, c.Oldest)
		if primary != "" && c.Primary != primary {
			st.Behind++
		}
		if b := m.trouble(*c, v); b != nil && (st.Phase == Mirroring || st.Phase == Reversed) {
			c.Trouble = b.Detail
			st.Blockers = append(st.Blockers, *b)
		}
		for _, s := range []*StoreStatus{&st.Source, &st.Target} {
			if s.Name == c.Primary {
				s.Clients++
			}
		}
	}
	if st.Live == 0 && (st.Phase == Mirroring || st.Phase == Reversed) {
		st.Blockers = append(st.Blockers, Blocker{Check: "clients", Detail: "no client was seen: none runs coordinated with these two stores", Allow: allowNoClients})
	}
	st.Ready = len(st.Blockers) == 0 && (st.Phase == Mirroring || st.Phase == Reversed)
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
func forget(ctx context.Context, sides []*side.Side, clients []ClientStatus) error {
	for _, c := range clients {
		for _, s := range sides {
			if c.Gone && slices.Contains(c.Stores, s.Name()) {
				if err := s.RemoveHeartbeat(ctx, c.Instance); err != nil && !side.IsAny(err, kv.ErrPermission) {
					return err
				}
			}
		}
	}
	return nil
}
