package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Fabric is a network in memory, which nodes of one process use instead of
// sockets. It loses, delays and partitions as it is told. Its methods may be
// called at any time, concurrently.
type Fabric struct {
	mu       sync.Mutex
	rand     *rand.Rand
	ports    map[netip.AddrPort]*fabricPort
	next     uint32
	loss     float64
	minDelay time.Duration
	maxDelay time.Duration
	side     map[netip.AddrPort]int           // of a partition; 0 for those that aren't named
	frozen   map[netip.AddrPort]chan struct{} // closed when the node goes on
	rate     int                              // bytes a second of one direction of a stream; 0: no limit
	changed  chan struct{}                    // closed when reachability changes
	stats    FabricStats
}

// FabricStats counts what nodes gave to a Fabric.
type FabricStats struct {
	DataPackets, DataBytes uint64 // frames, with their heads
	MembershipPackets      uint64
	Lost                   uint64 // packets, by chance, partition or a full queue
}

// NewFabric returns a network without loss or delay whose dice are those of
// seed.
func NewFabric(seed uint64) *Fabric {
	return &Fabric{
		rand:    rand.New(rand.NewPCG(seed, 0)),
		ports:   map[netip.AddrPort]*fabricPort{},
		side:    map[netip.AddrPort]int{},
		frozen:  map[netip.AddrPort]chan struct{}{},
		changed: make(chan struct{}),
	}
}

// SetLoss makes that share of all packets (0 to 1) get lost. Streams lose
// nothing, as TCP.
func (f *Fabric) SetLoss(share float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loss = share
}

// SetDelay delays each packet, and each write to a stream, by a random time
// between the two.
func (f *Fabric) SetDelay(shortest, longest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.minDelay, f.maxDelay = shortest, max(shortest, longest)
}

// SetRate bounds the bytes a second that each direction of a stream carries;
// 0: as many as fit.
func (f *Fabric) SetRate(bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rate = bytes
}

// Partition splits the network: each of the groups, and all nodes of no group
// together, hear only their own. Streams stay open. It replaces the partition
// there was.
func (f *Fabric) Partition(groups ...[]netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.side)
	for i, group := range groups {
		for _, addr := range group {
			f.side[addr] = i + 1
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// Heal ends the partition.
func (f *Fabric) Heal() { f.Partition() }

// Freeze stops a node as SIGSTOP stops a process: what it does to its socket
// waits until Thaw, and what others send it waits in the socket.
func (f *Fabric) Freeze(addr netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen[addr] == nil {
		f.frozen[addr] = make(chan struct{})
	}
}

// Thaw ends what Freeze began.
func (f *Fabric) Thaw(addr netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if thawed := f.frozen[addr]; thawed != nil {
		close(thawed)
		delete(f.frozen, addr)
	}
}

// awaitThaw waits as long as a node is frozen, unless done is closed.
func (f *Fabric) awaitThaw(addr netip.AddrPort, done <-chan struct{}) {
	f.mu.Lock()
	thawed := f.frozen[addr]
	f.mu.Unlock()
	if thawed == nil {
		return
	}
	select {
	case <-thawed:
	case <-done:
	}
}

// Stats returns the counts since the fabric was made.
func (f *Fabric) Stats() FabricStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// reachable tells whether one hears the other, and what is closed when that
// may have changed. f.mu is held.
func (f *Fabric) reachable(from, to netip.AddrPort) bool {
	return f.side[from] == f.side[to]
}

var errUnreachable = errors.New("unreachable")

// await waits until one hears the other, and as long as a write is delayed,
// unless expired or closed are closed.
func (f *Fabric) await(from, to netip.AddrPort, size int, expired, closed <-chan struct{}) error {
	f.mu.Lock()
	delay := f.delay()
	if f.rate > 0 {
		delay += time.Duration(size) * time.Second / time.Duration(f.rate)
	}
	for !f.reachable(from, to) {
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-expired:
			return errUnreachable
		case <-closed:
			return net.ErrClosed
		}
		f.mu.Lock()
	}
	f.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-expired:
			return errUnreachable
		case <-closed:
			return net.ErrClosed
		}
	}
	return nil
}

func (f *Fabric) delay() time.Duration {
	if f.maxDelay == 0 {
		return 0
	}
	return f.minDelay + time.Duration(f.rand.Int64N(int64(f.maxDelay-f.minDelay)+1))
}

// packet carries one packet, or loses it.
func (f *Fabric) packet(from, to netip.AddrPort, packet []byte) {
	f.mu.Lock()
	if len(packet) > 1 && packet[1]&kindMask == kindData {
		f.stats.DataPackets++
		f.stats.DataBytes += uint64(len(packet))
	} else {
		f.stats.MembershipPackets++
	}
	port := f.ports[to]
	if port == nil || !f.reachable(from, to) || (f.loss > 0 && f.rand.Float64() < f.loss) {
		f.stats.Lost++
		f.mu.Unlock()
		return
	}
	delay := f.delay()
	f.mu.Unlock()
	copied := append([]byte(nil), packet...)
	if delay == 0 {
		port.enqueue(from, copied)
	} else {
		time.AfterFunc(delay, func() { port.enqueue(from, copied) })
	}
}

func (f *Fabric) addLost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Lost++
}

// attach gives a node its address: the one it advertises, or the next free one.
func (f *Fabric) attach(address string, port int) (*fabricPort, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if port == 0 {
		port = 7946
	}
	f.next++
	ip := netip.AddrFrom4([4]byte{10, byte(f.next >> 16), byte(f.next >> 8), byte(f.next)})
	if address != "" {
		var err error
		if ip, err = netip.ParseAddr(address); err != nil {
			return nil, err
		}
	}
	addr := netip.AddrPortFrom(ip, uint16(port))
	if f.ports[addr] != nil {
		return nil, fmt.Errorf("address %s is in use", addr)
	}
	p := &fabricPort{fabric: f, addr: addr, arrived: make(chan struct{}, 1), done: make(chan struct{}), conns: make(chan net.Conn, 128)}
	f.ports[addr] = p
	return p, nil
}

func (f *Fabric) detach(p *fabricPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ports[p.addr] == p {
		delete(f.ports, p.addr)
	}
}

// dial opens a stream, as soon as the other can be reached.
func (f *Fabric) dial(ctx context.Context, from, to netip.AddrPort) (net.Conn, error) {
	f.awaitThaw(from, ctx.Done())
	if err := f.await(from, to, 0, ctx.Done(), nil); err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, errors.Join(err, ctx.Err()))
	}
	f.mu.Lock()
	port := f.ports[to]
	f.mu.Unlock()
	if port == nil {
		return nil, fmt.Errorf("dial %s: connection refused", to)
	}
	near, far := newFabricPipe(f, from, to)
	select {
	case port.conns <- far:
		return near, nil
	case <-port.done:
		return nil, fmt.Errorf("dial %s: connection refused", to)
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %s: %w", to, ctx.Err())
	}
}
