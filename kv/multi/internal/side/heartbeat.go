package side

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/polykv/polykv/kv"
)

const (
	// ClientsPrefix is where each coordinated client keeps a key of its own,
	// its heartbeat, in both stores: unguarded and never mirrored.
	ClientsPrefix = kv.ReservedSegment + "/clients/"

	// ScratchPrefix is where a command writes what it removes at once, to learn
	// what it may do.
	ScratchPrefix = kv.ReservedSegment + "/scratch/"

	// HeartbeatEvery is how often a client writes it if no record changes.
	HeartbeatEvery = 10 * time.Second

	// GoneAfter is how long a heartbeat may stay the same before its client
	// counts as gone.
	GoneAfter = 60 * time.Second
)

// What a client goes by that tells of itself.
const (
	ModeCoordinated = "coordinated" // the records
	ModeWanted      = "wanted"      // a configuration that it reads again and again
)

// Heartbeat is what a coordinated client tells about itself, as JSON.
type Heartbeat struct {
	// Instance names the client, not the process, which may have several. It
	// is a random name without slashes, see NewID.
	Instance string    `json:"instance"`
	Name     string    `json:"name,omitempty"` // that its configuration gives it
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Version  string    `json:"version"` // of polykv
	Started  time.Time `json:"started"`

	// Beat grows with every write, so that whoever looks twice knows without
	// comparing clocks that the client lives. Seen is the client's own time,
	// for those that look once.
	Beat uint64    `json:"beat"`
	Seen time.Time `json:"seen"`

	Mode    string `json:"mode"`    // ModeCoordinated or ModeWanted
	Primary string `json:"primary"` // the name of the store it reads and writes; "" while it waits for one
	Mirror  string `json:"mirror"`  // the name of the store it mirrors into; "" if none
	Epoch   uint64 `json:"epoch"`   // of the primary's record

	// Backlog is how many keys wait to be mirrored, and Oldest how long the
	// one that waits longest has done so.
	Backlog  int           `json:"backlog"`
	Oldest   time.Duration `json:"oldest_ns"`
	Mirrored uint64        `json:"mirrored"` // keys since Started
	Failed   uint64        `json:"failed"`   // failed attempts to mirror since Started

	// MirrorError is why mirroring fails at present; "": it doesn't.
	MirrorError string `json:"mirror_error,omitempty"`

	// Problem is why a client of ModeWanted can't do what is wanted; "": it can.
	Problem string `json:"problem,omitempty"`

	Waiting      int           `json:"waiting,omitempty"` // calls that wait for a store to be primary
	FenceTimeout time.Duration `json:"fence_timeout_ns"`  // how long they do

	// Sees is what it finds in each store.
	Sees []Sight `json:"sees"`
}

// Sight is what a client finds in a store when it reads the record there.
type Sight struct {
	Store     string `json:"store"`
	Migration string `json:"migration,omitempty"` // "": there is no record
	Version   uint64 `json:"version"`
	Error     string `json:"error,omitempty"` // why it can't be read now
}

// Sight returns what the client finds in a store, if it knows one of that
// name.
func (h Heartbeat) Sight(store string) (s Sight, knows bool) {
	for _, s := range h.Sees {
		if s.Store == store {
			return s, true
		}
	}
	return Sight{}, false
}

// Hostname is empty where it can't be told: the process id alone has to do.
func Hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return host
}

// WriteHeartbeat writes h under the client's own key.
func (s *Side) WriteHeartbeat(ctx context.Context, h Heartbeat) error {
	return s.CAS(ctx, ClientsPrefix+h.Instance, nil, func([]byte, bool) ([]byte, kv.Action, error) {
		data, err := json.Marshal(h)
		return data, kv.Put, err
	})
}

// RemoveHeartbeat removes what WriteHeartbeat wrote: a client that closes says
// goodbye.
func (s *Side) RemoveHeartbeat(ctx context.Context, instance string) error {
	return s.Delete(ctx, ClientsPrefix+instance, nil)
}

// Heartbeats reads those of all clients, in the order of their start. One that
// can't be read (another release's) is there with its Instance only.
func (s *Side) Heartbeats(ctx context.Context) ([]Heartbeat, error) {
	var all []Heartbeat
	for e, err := range s.Entries(ctx, ClientsPrefix) {
		if err != nil {
			return nil, err
		}
		instance := e.Key[len(ClientsPrefix):]
		var h Heartbeat
		if err := json.Unmarshal(e.Value, &h); err != nil || h.Instance != instance {
			h = Heartbeat{Instance: instance}
		}
		all = append(all, h)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Started.Before(all[j].Started) })
	return all, nil
}

// String names the client for people.
func (h Heartbeat) String() string {
	switch {
	case h.Host == "":
		return cmp.Or(h.Name, h.Instance)
	case h.Name != "":
		return fmt.Sprintf("%s (%s, pid %d)", h.Name, h.Host, h.PID)
	}
	return fmt.Sprintf("%s (pid %d)", h.Host, h.PID)
}
