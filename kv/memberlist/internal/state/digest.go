package state

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// DigestSize is the size of an encoded [Digest], in bytes.
const DigestSize = 16

// Buckets is the number of parts in which the keys of a codec are compared.
const Buckets = 256

// Digest stands for a set of things: the sum, in 128 bits, of one well-mixed
// hash of each. So it is kept up to date by adding what came and subtracting
// what went, in any order. (The exclusive or of weaker hashes cancels: two
// sets that differ in regular ways then look the same.)
type Digest struct{ Hi, Lo uint64 }

// IsZero reports whether d is the digest of nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// Add returns the digest of the things of both.
func (d Digest) Add(o Digest) Digest {
	lo, carry := bits.Add64(d.Lo, o.Lo, 0)
	hi, _ := bits.Add64(d.Hi, o.Hi, carry)
	return Digest{hi, lo}
}

// Sub returns the digest of d's things without o's.
func (d Digest) Sub(o Digest) Digest {
	lo, borrow := bits.Sub64(d.Lo, o.Lo, 0)
	hi, _ := bits.Sub64(d.Hi, o.Hi, borrow)
	return Digest{hi, lo}
}

// Append appends the encoded d to b: [DigestSize] bytes.
func (d Digest) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, d.Hi), d.Lo)
}

// String returns d in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d.Append(nil)) }
