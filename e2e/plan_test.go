package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// kind is what a fault is.
type kind string

const (
	// Of servers. They are down, or stopped, as long as the fault lasts.
	kill    kind = "kill"    // SIGKILL
	stop    kind = "stop"    // SIGSTOP, then SIGCONT
	restart kind = "restart" // SIGTERM

	// Of etcd's store.
	compaction kind = "compaction"
	defrag     kind = "defrag"

	// Of Consul's store: it is set back to what it was when the fault began.
	restore kind = "restore"

	// Of the client's rights, on a secured cluster.
	revoke kind = "revoke"

	// Of links, by toxiproxy.
	latency   kind = "latency"
	bandwidth kind = "bandwidth"
	slicer    kind = "slicer"
	slowClose kind = "slow_close"
	resetPeer kind = "reset_peer" // connections are reset after a while, again and again
	blackhole kind = "timeout"    // what is said in one direction is lost, and the connection closed after a while
	limitData kind = "limit_data" // connections are closed after so many bytes

	// Of links, by our own proxy.
	cut      kind = "cut"       // connections are closed, and refused
	reset    kind = "reset"     // connections are reset, once
	hang     kind = "hang"      // everything is held back, and comes late
	swallow  kind = "swallow"   // requests arrive, answers are lost
	halfOpen kind = "half-open" // connections are forgotten by the far side without a word
)

// place is where a fault strikes.
type place string

const (
	leader   place = "leader"
	follower place = "follower"
	majority place = "majority" // of the servers
	all      place = "all"

	oneLink   place = "link"
	oneClient place = "client" // all links of one client
	oneNode   place = "node"   // all links to one server
)

// A fault is one thing that goes wrong, for a while, and is put right.
type fault struct {
	What  kind
	Where place
	Lasts time.Duration
	Then  time.Duration // until the next fault of the same lane
	Pick  uint64        // decides what the others leave open: which follower, which link, how slow
}

// rand returns the fault's own source of what is left open.
func (f fault) rand() *rand.Rand { return rand.New(rand.NewPCG(f.Pick, 1)) }

// GoString returns f as it is written in a list of plans.
func (f fault) GoString() string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%d * time.Millisecond", d.Milliseconds()) }
	return fmt.Sprintf("{%q, %q, %s, %s, %#x}", f.What, f.Where, ms(f.Lasts), ms(f.Then), f.Pick)
}

// A plan is what goes wrong in one round: at the servers, and at the same time
// in the network.
type plan struct {
	Servers, Network []fault
}

func (p plan) String() string {
	var b strings.Builder
	for _, lane := range []struct {
		name   string
		faults []fault
	}{{"Servers", p.Servers}, {"Network", p.Network}} {
		fmt.Fprintf(&b, "%s: []fault{\n", lane.name)
		for _, f := range lane.faults {
			fmt.Fprintf(&b, "\t%#v,\n", f)
		}
		b.WriteString("},\n")
	}
	return b.String()
}

// choice is a kind and place with the number of lots that it has in a draw,
// and its shortest and longest time.
type choice struct {
	lots  int
	what  kind
	where place
	from  time.Duration
	to    time.Duration
}

const (
	short  = 300 * time.Millisecond
	second = time.Second
)

// serverChoices hold for both backends.
func serverChoices() []choice {
	return []choice{
		{4, kill, leader, short, 4 * second},
		{2, kill, follower, short, 4 * second},
		{1, kill, majority, second, 3 * second},
		{2, kill, all, second, 3 * second},
		{2, stop, leader, short, 6 * second},
		{1, stop, follower, short, 6 * second},
		{1, stop, all, short, 4 * second},
		{1, restart, leader, short, second},
		{1, restart, follower, short, second},
	}
}

func networkChoices() []choice {
	var cs []choice
	for _, where := range []place{oneLink, oneClient, oneNode, all} {
		cs = append(
			cs,
			choice{2, latency, where, short, 3 * second},
			choice{1, bandwidth, where, short, 3 * second},
			choice{1, slicer, where, short, 3 * second},
			choice{1, slowClose, where, short, 2 * second},
			choice{2, resetPeer, where, short, 2 * second},
			choice{2, blackhole, where, short, 4 * second},
			choice{1, limitData, where, short, 2 * second},
			choice{2, cut, where, short, 3 * second},
			choice{1, reset, where, short, short},
			choice{2, hang, where, short, 5 * second},
			choice{4, swallow, where, short, 4 * second},
			choice{1, halfOpen, where, short, short},
		)
	}
	return cs
}

// draw makes the plan of a seed. It goes wrong for about so long.
func draw(seed uint64, servers, network []choice, lasts time.Duration) plan {
	lane := func(number uint64, choices []choice, quiet time.Duration) (faults []fault) {
		r := rand.New(rand.NewPCG(seed, number))
		if len(choices) == 0 {
			return nil
		}
		var sum time.Duration
		for sum < lasts {
			c := drawOne(r, choices)
			f := fault{What: c.what, Where: c.where, Lasts: between(r, c.from, c.to), Then: between(r, 0, quiet), Pick: r.Uint64()}
			faults = append(faults, f)
			sum += f.Lasts + f.Then
		}
		return faults
	}
	return plan{Servers: lane(0, servers, 3*second), Network: lane(1, network, second)}
}

func drawOne(r *rand.Rand, choices []choice) choice {
	lots := 0
	for _, c := range choices {
		lots += c.lots
	}
	n := r.IntN(lots)
	for _, c := range choices {
		if n -= c.lots; n < 0 {
			return c
		}
	}
	return choices[0]
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return (from + time.Duration(r.Int64N(int64(to-from)+1))).Truncate(time.Millisecond)
}
