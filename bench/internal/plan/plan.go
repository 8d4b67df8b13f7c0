// Package plan is the table of what is measured.
package plan

import "github.com/polykv/polykv/bench/workload"

// The contestants.
const (
	Polykv     = "polykv"
	Dskit      = "dskit"
	DskitTuned = "dskit tuned"
	Cortex     = "Cortex"
	Raw        = "raw client"
	Bare       = "raw client on a bare connection"
)

// Contestants are all, in the order of the document.
func Contestants() []string { return []string{Polykv, Dskit, DskitTuned, Cortex, Raw, Bare} }

// The backends.
const (
	Memory      = "memory"
	Etcd        = "etcd"
	EtcdNoFsync = "etcd-nofsync"
	Consul      = "consul"
	Consul3     = "consul3"
	Bolt        = "bolt"
	NATS        = "nats"
	Postgres    = "postgres"
	Gossip      = "gossip"
)

// BackendTitle is the name of a backend for people.
func BackendTitle(backend string) string {
	return map[string]string{
		Memory:      "memory",
		Etcd:        "etcd, one server",
		EtcdNoFsync: "etcd, one server without fsync",
		Consul:      "Consul, development mode",
		Consul3:     "Consul, three servers",
		Bolt:        "a file",
		NATS:        "NATS JetStream, one server",
		Postgres:    "PostgreSQL",
		Gossip:      "gossip",
	}[backend]
}

// Figure says which number of a sample a row is about.
type Figure string

// The figures. Of a rate more is better, of anything else less.
const (
	Rate  Figure = "rate"  // calls that succeeded, by second
	P50   Figure = "p50"   // seconds
	P99   Figure = "p99"   // seconds
	Total Figure = "total" // seconds
	Bytes Figure = "bytes"
	Count Figure = "sessions"
	CPU   Figure = "cpu"  // seconds of processor time by call
	Idle  Figure = "idle" // seconds of processor time by second
)

// Better reports whether more of f is better.
func (f Figure) Better() bool { return f == Rate }

// Row is one line of the table on each of some backends, or one curve.
type Row struct {
	ID      string
	Title   string
	Meaning string // to a user
	Figure  Figure
	Spec    workload.Spec
	On      map[string]Entry // by backend

	Curve []Point // not empty: a curve
	Axis  string  // what X of its points is
	Log   bool    // X is on a logarithmic scale
	Shape string  // why the curve is as it is

	Rounds  int     // fewer than usual, for what takes long; 0: as usual
	Cold    bool    // a single sample of each contestant, in a new process each time
	Seconds float64 // of a sample, if not as usual
}

// Point is one point of a curve.
type Point struct {
	X    float64
	Spec workload.Spec
}

// Entry is who takes part on a backend and what must hold there.
type Entry struct {
	Contestants []string
	Must        []Target
	Why         string // what stands in the way where something is slower
}

// Target is a ratio that must hold: polykv's rate is at least Factor times
// that of Against; for other figures, Against's is at least Factor times
// polykv's.
type Target struct {
	Against string
	Factor  float64
}

// Backends are all, in the order of the document.
func Backends() []string {
	return []string{Memory, Etcd, EtcdNoFsync, Consul, Consul3, Bolt, NATS, Postgres, Gossip}
}

func everyone() []string { return []string{Polykv, Dskit, DskitTuned, Cortex, Raw} }
func main3() []string    { return []string{Polykv, Dskit, Raw} }
func untuned() []string  { return []string{Polykv, Dskit, Cortex, Raw} }
func inMemory() []string { return []string{Polykv, Dskit, Cortex} }
func both() []string     { return []string{Polykv, Dskit} }

// Rows returns the whole plan.
func Rows() []Row {
	all := writeRows()
	all = append(all, readRows()...)
	all = append(all, watchRows()...)
	all = append(all, electionRows()...)
	all = append(all, gossipRows()...)
	return append(all, curves()...)
}
