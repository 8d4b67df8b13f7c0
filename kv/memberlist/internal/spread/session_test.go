package spread

import (
	"fmt"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// silent keeps nodes from exchanging anything by themselves but changes.
func (c *cluster) silent() {
	c.network.ProbeInterval, c.network.PushPullInterval = time.Hour, time.Hour
	c.config.TailDelay = time.Hour
}

// TestCompareBothWays compares once, from one side: afterwards both have all.
func TestCompareBothWays(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	c.silent()
	nodes := c.grow(2)
	awaitEqual(t, patience, nodes...)
	for i, n := range nodes {
		for j := range 3000 { // enough for several messages
			n.apply(t, state.Update{
				Key: fmt.Sprintf("node %d/%d", i, j), Codec: "string",
				V: state.Version{Wall: 1, Instance: 1}, Value: []byte(random(t, 100)),
			})
		}
		n.apply(t, state.Update{Key: "map", Codec: "maxmap", V: state.Version{Wall: 1, Instance: uint64(i + 1)}, Value: fmt.Appendf(nil, `{"M":{"%d":1}}`, i)})
	}
	found, err := nodes[0].spread.compare(t.Context(), nodes[0].spread.Peers()[0])
	if err != nil || !found {
		t.Fatalf("found a difference: %v, %v", found, err)
	}
	if !allEqual(nodes) {
		t.Error("they differ")
	}
	for _, n := range nodes {
		if keys := n.store.Snapshot().Len(); keys != 6001 || n.entries("map") != 2 {
			t.Errorf("%s has %d keys, %d entries in the map", n.name, keys, n.entries("map"))
		}
	}
	if found, err = nodes[1].spread.compare(t.Context(), nodes[1].spread.Peers()[0]); found || err != nil {
		t.Errorf("equal nodes: found a difference: %v, %v", found, err)
	}
}

// apply puts a state into the store as if it had come from elsewhere.
func (n *node) apply(t *testing.T, u state.Update) {
	t.Helper()
	if a := n.store.Apply(u, nil); a.Outcome != state.Changed {
		t.Fatalf("%s: %v, %v", u.Key, a.Outcome, a.Err)
	}
}

// dial opens a stream from one node to another, to speak by hand.
func (n *node) dial(t *testing.T, to *node) *stream {
	t.Helper()
	peer, ok := n.spread.member(to.net.Self().Instance)
	if !ok {
		t.Fatalf("%s is no member", to.name)
	}
	conn, err := n.net.Dial(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	st := newStream(conn, 10*time.Second)
	t.Cleanup(st.close)
	return st
}

// TestHostileStreams sends what no node sends.
func TestHostileStreams(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	c.silent()
	nodes := c.grow(2)
	st := goldenStanding()
	begin := appendStanding(nil, &st)
	for name, talk := range map[string]func(st *stream) error{
		"reads before it begins":     func(st *stream) error { return st.send(msgRead, state.AppendBytes(nil, "string")) },
		"an unknown kind":            func(st *stream) error { return st.send(200) },
		"half a standing":            func(st *stream) error { return st.send(msgBegin, begin[:20]) },
		"data instead of a question": func(st *stream) error { return st.send(msgData, []byte("data")) },
		"a message over the limit":   func(st *stream) error { _, err := st.conn.Write([]byte{0xff, 0, 0, 0, wireVersion, 1}); return err },
		"a pull of nothing":          func(st *stream) error { return st.send(msgPull) },
		"garbage where records begin": func(st *stream) error {
			_ = st.send(msgBegin, begin)
			_ = st.send(msgGive)
			return st.send(msgData, []byte{0xff, 0xff, 0xff, 0xff, 0xff})
		},
	} {
		before := nodes[1].spread.count.malformed.Load()
		st := nodes[0].dial(t, nodes[1])
		if err := talk(st); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for {
			if kind, _, err := st.receive(); err != nil {
				break
			} else if kind != msgBegin {
				t.Errorf("%s: answered with kind %d", name, kind)
			}
		}
		c.eventually(name+" is counted", func() bool { return nodes[1].spread.count.malformed.Load() == before+1 })
	}
	c.eventually("no slot is taken", func() bool { return len(nodes[1].spread.serving) == 0 })
	nodes[0].put(t, "key", "1")
	awaitEqual(t, patience, nodes...)
}

// FuzzHandleFrame feeds datagrams to a node that runs.
func FuzzHandleFrame(f *testing.F) {
	c := newCluster(f, network.NewFabric(1))
	c.silent()
	n := c.grow(2)[0]
	peer := n.spread.Peers()[0]
	f.Add(goldenPush())
	f.Add(goldenRefusal())
	for _, kind := range []byte{framePush, frameTail, frameAsk, frameGone, frameCheck, frameRoots, frameRefused} {
		f.Add(appendHeader(nil, kind, peer.Instance))
	}
	f.Add(appendSpan(appendHeader(nil, frameAsk, peer.Instance), span{1, 1000}))
	f.Add(appendDigestList(appendHeader(nil, frameRoots, peer.Instance), goldenList()))
	f.Fuzz(func(t *testing.T, frame []byte) {
		n.spread.HandleFrame(peer.Addr, frame)
		n.spread.HandleAck(peer, 0, frame)
		n.spread.MergeRemoteState(frame, true)
	})
}

// TestComparisonEndsWhenTheClockIsWrong has a node's write refused while it is
// compared with: it leaves the write out of its answers from then on, which
// must not be taken for a deletion.
func TestComparisonEndsWhenTheClockIsWrong(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	c.silent()
	nodes := c.grow(2)
	nodes[1].put(t, "key", "refused")
	for _, kind := range []byte{msgBuckets, msgKeys, msgRead} {
		st := nodes[0].dial(t, nodes[1])
		ours := nodes[0].spread.standing()
		if err := st.send(msgBegin, appendStanding(nil, &ours)); err != nil {
			t.Fatal(err)
		}
		body, err := st.expect(msgBegin)
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := decodeStanding(body); err != nil || len(theirs.context.Marks) == 0 {
			t.Fatalf("it says nothing of what it has seen: %v, %v", theirs, err)
		}
		e, v := nodes[1].store.Get("key").Versions()
		nodes[1].store.Refused("key", e, v)
		if claim := nodes[1].spread.digests().claim; !claim.IsZero() {
			t.Errorf("it claims that its digests have its writes up to %v", claim)
		}
		question := appendBucketList(nil, "string", []int{state.BucketOf("key")})
		switch kind {
		case msgRead:
			question = state.AppendBytes(nil, "string")
		case msgBuckets:
			question = []byte("string")
		}
		if err := st.send(kind, question); err != nil {
			t.Fatal(err)
		}
		for {
			answer, _, err := st.receive()
			if err != nil {
				break
			}
			if answer == msgEnd || answer == msgBuckets {
				t.Fatal("the answer ends as if it was all")
			}
		}
		nodes[1].put(t, "key", "taken")
	}
}

// TestRefusedForAMoment has a node's write refused while it compares, and taken again
// before the end: what it read meanwhile was without it.
func TestRefusedForAMoment(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	c.silent()
	n := c.start("a")
	n.put(t, "key", "refused")
	ours := n.spread.standing()
	if len(ours.context.Marks) == 0 || n.spread.hasTurned(&ours) {
		t.Fatalf("before anything was refused: %v", ours)
	}
	e, v := n.store.Get("key").Versions()
	n.store.Refused("key", e, v)
	if ours := n.spread.standing(); len(ours.context.Marks) > 0 {
		t.Errorf("it says what it has seen: %v", ours)
	}
	n.put(t, "key", "taken")
	if !n.spread.hasTurned(&ours) {
		t.Error("nothing of it is left when the comparison ends")
	}
}
