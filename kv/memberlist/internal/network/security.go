package network

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Security says to which cluster a node belongs and how that is proven. It is
// exchanged as a whole ([Network.SetSecurity]), so that no packet is ever
// judged by half of it.
type Security struct {
	Label        string   // of the cluster, at most 255 bytes; goes with everything this node sends
	AcceptLabels []string // accepted besides Label, while a cluster is being given another label

	Keys            [][]byte // of 16, 24 or 32 bytes; the first seals, all open; none: no encryption
	AcceptPlaintext bool     // although there are keys, while encryption is being introduced
	SendPlaintext   bool     // likewise
}

// maxLabel is how many bytes a label may have.
const maxLabel = 255

// Check reports what can't work, by the fields of the configuration that it comes
// from.
func (s Security) Check() error {
	encrypted := len(s.Keys) > 0
	switch {
	case len(s.Label) > maxLabel:
		return fmt.Errorf("cluster_label: has %d bytes; at most %d are allowed", len(s.Label), maxLabel)
	case slices.ContainsFunc(s.AcceptLabels, func(label string) bool { return len(label) > maxLabel }):
		return fmt.Errorf("accept_cluster_labels: one has too many bytes; at most %d are allowed", maxLabel)
	case s.AcceptPlaintext && !encrypted:
		return errors.New("accept_plaintext: is set, but there are no encryption keys, so everything is plaintext")
	case s.SendPlaintext && !encrypted:
		return errors.New("send_plaintext: is set, but there are no encryption keys, so everything is plaintext")
	case s.SendPlaintext && !s.AcceptPlaintext:
		return errors.New("send_plaintext: is set without accept_plaintext, but what this node sends others will too")
	}
	return nil
}

const (
	saltSize    = 16
	tagSize     = 16
	labelIDSize = 8
)

// labelID stands for a label in the head of a packet. That two labels could
// share one is no danger: with keys the whole label enters what is
// authenticated, and without keys a label protects from accidents only.
type labelID [labelIDSize]byte

func idOf(label string) labelID {
	sum := sha256.Sum256([]byte(label))
	return labelID(sum[:labelIDSize])
}

// ring is Security made ready for use. It doesn't change once it is published;
// what it remembers of senders is a cache.
type ring struct {
	Security
	labels map[labelID]string

	own       labelID
	salt      [saltSize]byte // of this process under this ring
	seal      cipher.AEAD    // nil: packets go out in the clear
	counter   atomic.Uint64  // nonces of seal
	sendersMu sync.RWMutex
	senders   map[senderID]cipher.AEAD
	tls       *tls.Config // of streams, those of others included
}

// senderID is a sending process under one label.
type senderID struct {
	salt  [saltSize]byte
	label labelID
}

// maxSenders bounds the cache of ring; only authenticated senders enter it.
const maxSenders = 8192

func newRing(s Security) (*ring, error) {
	r := &ring{Security: s, labels: map[labelID]string{}, own: idOf(s.Label), senders: map[senderID]cipher.AEAD{}}
	err := s.Check()
	if err != nil {
		return nil, err
	}
	for _, label := range slices.Concat([]string{s.Label}, s.AcceptLabels) {
		r.labels[idOf(label)] = label
	}
	if r.tls, err = newTLS(); err != nil {
		return nil, err
	}
	if len(r.Keys) == 0 {
		return r, nil
	}
	_, _ = rand.Read(r.salt[:]) // never fails
	seal, err := packetAEAD(r.Keys[0], r.salt[:], s.Label)
	if err != nil {
		return nil, fmt.Errorf("encrypted datagrams count their nonces, which GODEBUG=fips140=only forbids, and fips140=on allows: %w", err)
	}
	if !s.SendPlaintext {
		r.seal = seal
	}
	return r, nil
}

// acceptsPlaintext tells whether what isn't sealed is let in.
func (r *ring) acceptsPlaintext() bool { return len(r.Keys) == 0 || r.AcceptPlaintext }

// Each process seals under a key of its own, derived from the cluster's and a
// random salt that its packets carry: so a counter makes nonces that never
// repeat, although the processes know nothing of each other.
func packetAEAD(key, salt []byte, label string) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, salt, "polykv gossip packet 1\x00"+label, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sender returns what opens packets of a sender that was heard before.
func (r *ring) sender(id senderID) (cipher.AEAD, bool) {
	r.sendersMu.RLock()
	defer r.sendersMu.RUnlock()
	aead, ok := r.senders[id]
	return aead, ok
}

func (r *ring) remember(id senderID, aead cipher.AEAD) {
	r.sendersMu.Lock()
	defer r.sendersMu.Unlock()
	if len(r.senders) >= maxSenders {
		for old := range r.senders { // any: those that still send come back at their next packet
			delete(r.senders, old)
			break
		}
	}
	r.senders[id] = aead
}
