package spread

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// ask is a question that any node answers.
func ask(st *stream) error {
	s := goldenStanding()
	if err := st.send(msgBegin, appendStanding(nil, &s)); err != nil {
		return err
	}
	if _, err := st.expect(msgBegin); err != nil {
		return err
	}
	return st.send(msgEnd)
}

func TestPool(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	c.silent()
	nodes := c.grow(2)
	p, peer := newPool(nodes[0].net, 10*time.Second), nodes[0].spread.Peers()[0]
	defer p.close()
	want := func(what string, busy, idle int) {
		t.Helper()
		if b, i := p.size(); b != busy || i != idle {
			t.Errorf("%s: %d streams in use and %d kept, want %d and %d", what, b, i, busy, idle)
		}
	}

	var first *stream
	for range 2 {
		if err := p.with(t.Context(), peer, func(st *stream) error {
			if first == nil {
				first = st
			} else if st != first {
				t.Error("the stream was not kept")
			}
			want("in use", 1, 0)
			return ask(st)
		}); err != nil {
			t.Fatal(err)
		}
	}
	want("after use", 0, 1)

	first.close() // as the peer does after a while
	if err := p.with(t.Context(), peer, ask); err != nil {
		t.Errorf("a dead stream was kept, and no new one dialled: %v", err)
	}
	failure, calls := errors.New("failure"), 0
	if err := p.with(t.Context(), peer, func(st *stream) error {
		calls++
		_ = ask(st)
		return failure
	}); !errors.Is(err, failure) || calls != 1 {
		t.Errorf("after an answer: %v, %d calls", err, calls)
	}
	want("after a failure", 0, 0)
	if err := p.with(t.Context(), peer, func(*stream) error { return &busyError{} }); !errors.Is(err, errBusy) {
		t.Error(err)
	}
	want("after a busy peer", 0, 1)

	p.expire(time.Now())
	want("before its time", 0, 1)
	p.expire(time.Now().Add(6 * time.Second))
	want("after its time", 0, 0)

	use := func(end func()) error {
		return p.with(t.Context(), peer, func(st *stream) error {
			end()
			_, _, err := st.receive()
			return err
		})
	}
	if err := use(func() { p.drop(peer.ID) }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the peer has left: %v", err)
	}
	want("the peer has left", 0, 0)
	if err := use(p.close); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the pool was closed: %v", err)
	}
	want("the pool was closed", 0, 0)
	if _, _, err := p.get(t.Context(), peer); !errors.Is(err, network.ErrClosed) {
		t.Errorf("after it was closed: %v", err)
	}
}

// TestPoolAsksASilentPeerOnce times out on a stream that was kept: another one
// to the same peer would be as silent.
func TestPoolAsksASilentPeerOnce(t *testing.T) {
	f := network.NewFabric(1)
	c := newCluster(t, f)
	c.silent()
	nodes := c.grow(2)
	p, peer := newPool(nodes[0].net, 100*time.Millisecond), nodes[0].spread.Peers()[0]
	defer p.close()
	if err := p.with(t.Context(), peer, ask); err != nil {
		t.Fatal(err)
	}
	f.Partition([]netip.AddrPort{nodes[1].net.Self().Addr})
	calls := 0
	err := p.with(t.Context(), peer, func(st *stream) error {
		calls++
		return ask(st)
	})
	if !errors.Is(err, os.ErrDeadlineExceeded) || calls != 1 {
		t.Errorf("%d calls, error %v", calls, err)
	}
}
