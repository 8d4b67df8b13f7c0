package spread

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// burstFrames is how many frames a node sends within Config.Coalesce: what
// the receive buffer of a socket holds in its usual size, shared with others.
const burstFrames = 48

// sender is the goroutine that turns the queue into frames. The first change
// after a pause goes at once.
type sender struct {
	s     *Spread
	seq   uint64
	items []item
	last  time.Time   // when the last frame went
	tail  *time.Timer // runs out TailDelay after the last frame
	hold  *time.Timer
	next  time.Time // when frames may go again
}

func (s *Spread) runSender() {
	w := &sender{s: s, tail: time.NewTimer(time.Hour), hold: time.NewTimer(time.Hour)}
	defer w.tail.Stop()
	defer w.hold.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-w.tail.C:
			if !w.s.origins.heardSince(w.last) { // else that one's sender does it
				w.sendTail(0)
			}
			continue
		case <-s.queue.wake:
		}
		if wait := time.Until(w.next); wait > 0 {
			w.hold.Reset(wait)
			select {
			case <-s.ctx.Done():
				return
			case <-w.hold.C:
			}
		}
		w.sendQueued()
	}
}

// sendQueued sends one burst.
func (w *sender) sendQueued() {
	room := w.s.net.MaxFrame()
	items, behind, upTo := w.s.queue.take(burstFrames*room, w.items)
	w.items = items
	if len(items) == 0 && !behind {
		return
	}
	peers := w.s.Peers()
	for len(items) > 0 {
		frame, taken := w.pack(items, room, len(peers))
		w.send(frame, peers, items[:taken])
		items = items[taken:]
	}
	if behind {
		w.s.count.behind.Add(1)
		w.sendTail(pushBehind)
	}
	clear(w.items)
	w.s.queue.done(upTo)
	w.last = time.Now()
	w.next = w.last.Add(w.s.cfg.Coalesce)
	w.tail.Reset(w.s.cfg.TailDelay)
}

// pack encodes as many of the items as fit one frame, at least one.
func (w *sender) pack(items []item, room, peers int) (frame []byte, taken int) {
	var flags byte
	if peers > w.s.cfg.DirectFanout {
		flags |= pushRelay
	}
	size := pushOverhead
	for taken < len(items) {
		size += itemSize(&items[taken])
		if taken > 0 && size > room {
			break
		}
		taken++
	}
	frame = make([]byte, 0, min(size, room))
	frame = appendHeader(frame, framePush, w.s.self.Instance)
	w.seq++
	frame = appendPush(frame, w.seq, flags)
	codec := ""
	for i := range items[:taken] {
		frame = appendItem(frame, &items[i], codec)
		codec = items[i].Codec
	}
	return frame, taken
}

func (w *sender) send(frame []byte, peers []network.Peer, items []item) {
	s := w.s
	s.sequence.Store(w.seq)
	s.history.add(w.seq, frame)
	to := peers
	if len(peers) > s.cfg.DirectFanout {
		to = pick(peers, s.cfg.RelayFanout, 0)
	}
	// Counted and noted first: who sees what a frame does finds it in the figures.
	s.count.frames.Add(1)
	now := time.Now()
	for i := range items {
		s.logItem(&items[i], w.seq, true, nil, now, "")
	}
	s.transmit(frame, to...)
}

// tailMemory is how long before a tail the frames of others were heard that it
// tells of.
const tailMemory = 2 * time.Second

// sendTail tells all which frames were the last, of this node and of others
// that sent some lately. It is up to the node that sent the very last one:
// so a pause costs one frame, however many nodes wrote before.
func (w *sender) sendTail(flags byte) {
	s := w.s
	frame := appendHeader(make([]byte, 0, s.net.MaxFrame()), frameTail, s.self.Instance)
	frame = appendPush(frame, w.seq, flags)
	room := (s.net.MaxFrame() - len(frame)) / (8 + binary.MaxVarintLen64)
	frame = appendLastFrames(frame, s.origins.recent(time.Now().Add(-tailMemory), min(room, maxLastFrames)))
	s.logFrame(frameTail, w.seq, true, nil)
	s.transmit(frame, s.Peers()...)
}

// greet tells new members which frame was the last, so that they can tell
// later what they missed from what was sent before they came.
func (s *Spread) greet(joined []network.Peer) {
	frame := appendHeader(make([]byte, 0, pushOverhead), frameTail, s.self.Instance)
	s.transmit(appendPush(frame, s.sequence.Load(), 0), joined...)
}

// pick returns up to n random members, without those of an instance.
func pick(peers []network.Peer, n int, without uint64) []network.Peer {
	if len(peers) <= n {
		return slices.DeleteFunc(slices.Clone(peers), func(p network.Peer) bool { return p.Instance == without })
	}
	picked := make([]network.Peer, 0, n)
	for tries := 0; tries < 8*n && len(picked) < n; tries++ {
		p := peers[rand.IntN(len(peers))]
		if p.Instance != without && !slices.ContainsFunc(picked, func(o network.Peer) bool { return o.ID == p.ID }) {
			picked = append(picked, p)
		}
	}
	return picked
}
