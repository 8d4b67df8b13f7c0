package network

import "net/netip"

// MaxFrame returns how many bytes fit a frame.
func (n *Network) MaxFrame() int { return n.cfg.MaxPacket - maxOverhead }

// Send sends one datagram with frame to each of the peers, or by a stream to
// those that answer none. It doesn't wait: datagrams get lost, those that the
// operating system has no room for included.
// The only errors are ErrFrameTooLarge and ErrClosed.
func (n *Network) Send(frame []byte, to ...Peer) error {
	if len(frame) > n.MaxFrame() {
		return ErrFrameTooLarge
	}
	if n.ctx.Err() != nil {
		return ErrClosed
	}
	n.sendAll(kindData, frame, to)
	return nil
}

func (n *Network) sendAll(kind byte, payload []byte, to []Peer) {
	if to = n.paths.split(kind, payload, to); len(to) == 0 {
		return
	}
	buf := n.bufs.Get().(*cryptBuf)
	defer n.bufs.Put(buf)
	packet := n.ring.Load().sealPacket(buf, kind, payload)
	unsent := n.wire.send(packet, to)
	for range unsent {
		n.rejects.add(CauseUnsent, "", "")
	}
	n.countSent(kind, len(to)-unsent, len(packet))
}

// sendPacket sends one packet to one address.
func (n *Network) sendPacket(kind byte, payload []byte, to netip.AddrPort) error {
	if !allowed(n.cfg.AllowedCIDRs, to.Addr()) { // asked for by another node's message
		n.rejects.add(CauseSource, to, "as a destination")
		return nil
	}
	if s := n.paths.stream(to); s != nil {
		n.enqueue(s, kind, payload)
		return nil
	}
	return n.sendDatagram(kind, payload, to)
}

func (n *Network) sendDatagram(kind byte, payload []byte, to netip.AddrPort) error {
	buf := n.bufs.Get().(*cryptBuf)
	defer n.bufs.Put(buf)
	packet := n.ring.Load().sealPacket(buf, kind, payload)
	if err := n.wire.sendTo(packet, to); err != nil {
		n.rejects.add(CauseUnsent, to, err.Error())
		return nil // as if it got lost; memberlist would take a full buffer here for a failed peer
	}
	n.countSent(kind, 1, len(packet))
	return nil
}

func (n *Network) countSent(kind byte, packets, size int) {
	n.count(func(s *Stats) {
		if kind == kindData {
			s.FramesSent += uint64(packets)
			s.FrameBytesSent += uint64(packets * size)
		} else {
			s.MembershipSent += uint64(packets)
			s.MembershipBytesSent += uint64(packets * size)
		}
	})
}

// receive judges one packet and hands on what is in it.
func (n *Network) receive(buf *cryptBuf, from netip.AddrPort, packet []byte) {
	if !allowed(n.cfg.AllowedCIDRs, from.Addr()) {
		n.rejects.add(CauseSource, from, "")
		return
	}
	kind, payload, why := n.ring.Load().openPacket(buf, packet)
	if why != "" {
		n.rejects.add(why, from, "")
		return
	}
	n.count(func(s *Stats) {
		if kind == kindData {
			s.FramesReceived++
			s.FrameBytesReceived += uint64(len(packet))
		} else {
			s.MembershipReceived++
			s.MembershipBytesReceived += uint64(len(packet))
		}
	})
	if kind == kindPath {
		n.paths.receive(from, payload)
		return
	}
	n.deliver(from, kind, payload)
}

// deliver hands on what is in a packet.
func (n *Network) deliver(from netip.AddrPort, kind byte, payload []byte) {
	switch kind {
	case kindData:
		n.handler.HandleFrame(from, payload)
	case kindMembership:
		n.transport.receive(from, payload)
	}
}
