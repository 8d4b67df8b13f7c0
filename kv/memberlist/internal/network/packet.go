package network

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// A packet:
//
//	1 byte    magic
//	1 byte    kind, and whether the rest is sealed
//	8 bytes   the label's id
//	in the clear:  4 bytes CRC-32C of all before it and the payload; payload
//	sealed:        16 bytes salt of the sending process, 8 bytes counter, payload under AES-GCM
//
// What is outside of the seal is authenticated by it.
const (
	packetMagic = 0xb7

	kindData       = 1
	kindMembership = 2
	kindPath       = 3 // whether datagrams are answered
	kindPackets    = 4 // of streams only: packets in place of datagrams
	kindMask       = 0x0f
	flagSealed     = 0x80

	headSize   = 2 + labelIDSize
	clearSize  = headSize + 4
	sealedSize = headSize + saltSize + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// overhead returns how many bytes of a packet are not payload.
func (r *ring) overhead() int {
	if r.seal == nil {
		return clearSize
	}
	return sealedSize + tagSize
}

// maxOverhead is that of any ring: frames don't shrink when keys come.
const maxOverhead = sealedSize + tagSize

// cryptBuf is what sealing and opening write to.
type cryptBuf struct {
	packet []byte
	nonce  [12]byte
}

// sealPacket returns payload as a packet, in buf.
func (r *ring) sealPacket(buf *cryptBuf, kind byte, payload []byte) []byte {
	b := append(buf.packet[:0], packetMagic, kind)
	b = append(b, r.own[:]...)
	if r.seal == nil {
		sum := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, payload)
		b = binary.BigEndian.AppendUint32(b, sum)
		buf.packet = append(b, payload...)
		return buf.packet
	}
	b[1] |= flagSealed
	b = append(b, r.salt[:]...)
	b = binary.BigEndian.AppendUint64(b, r.counter.Add(1))
	copy(buf.nonce[4:], b[sealedSize-8:])
	b = slices.Grow(b, len(payload)+tagSize)
	buf.packet = r.seal.Seal(b, buf.nonce[:], payload, b)
	return buf.packet
}

// openPacket returns the kind and payload of packet; the payload is in buf or
// in packet itself. A cause other than "" says why there is none.
func (r *ring) openPacket(buf *cryptBuf, packet []byte) (kind byte, payload []byte, why Cause) {
	if len(packet) < clearSize {
		return 0, nil, CauseShort
	}
	if packet[0] != packetMagic {
		return 0, nil, CauseForeign
	}
	kind = packet[1] & kindMask
	if packet[1]&^(kindMask|flagSealed) != 0 || kind < kindData || kind > kindPath {
		return 0, nil, CauseForeign
	}
	id := labelID(packet[2:headSize])
	label, ok := r.labels[id]
	if !ok {
		return 0, nil, CauseLabel
	}
	if packet[1]&flagSealed == 0 {
		if !r.acceptsPlaintext() {
			return 0, nil, CausePlaintext
		}
		sum := crc32.Update(crc32.Checksum(packet[:headSize], castagnoli), castagnoli, packet[clearSize:])
		if sum != binary.BigEndian.Uint32(packet[headSize:]) {
			return 0, nil, CauseChecksum
		}
		return kind, packet[clearSize:], ""
	}
	if len(packet) < sealedSize+tagSize {
		return 0, nil, CauseShort
	}
	if payload = r.openSealed(buf, packet, senderID{[saltSize]byte(packet[headSize:]), id}, label); payload == nil {
		return 0, nil, CauseKey
	}
	return kind, payload, ""
}

// openSealed tries the sender's key if it was heard before, else all keys.
// Deriving a key costs microseconds, and nothing is kept until it has proven
// to be the right one.
func (r *ring) openSealed(buf *cryptBuf, packet []byte, from senderID, label string) []byte {
	copy(buf.nonce[4:], packet[sealedSize-8:sealedSize])
	head, body := packet[:sealedSize], packet[sealedSize:]
	if aead, ok := r.sender(from); ok {
		return opened(aead.Open(buf.packet[:0], buf.nonce[:], body, head))
	}
	for _, key := range r.Keys {
		aead, err := packetAEAD(key, from.salt[:], label)
		if err != nil {
			continue
		}
		if plain := opened(aead.Open(buf.packet[:0], buf.nonce[:], body, head)); plain != nil {
			r.remember(from, aead)
			return plain
		}
	}
	return nil
}

// opened tells an empty payload from none.
func opened(plain []byte, err error) []byte {
	if err != nil {
		return nil
	}
	if plain == nil {
		return []byte{}
	}
	return plain
}
