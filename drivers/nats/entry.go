package nats

import (
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/polykv/polykv/kv/driver"
)

// Headers of messages. The first three are those of NATS' own key-value buckets.
const (
	headerOperation = "KV-Operation"       // of a marker: DEL or PURGE
	headerReason    = "Nats-Marker-Reason" // of a marker that the server made
	headerExpected  = "Nats-Expected-Last-Subject-Sequence"
	headerWrite     = "Polykv-Write" // the id of the write that the message is
)

// meta is what the driver needs to know of a state: an absent key has one too,
// if there is a marker.
type meta struct {
	sequence uint64 // of the message
	write    uint64 // id of the write; 0: another tool's
}

// entry returns the state that a message is.
func entry(key string, sequence uint64, header nats.Header, value []byte, generation uint64) driver.Entry {
	write, _ := strconv.ParseUint(header.Get(headerWrite), 16, 64)
	e := driver.Entry{Key: key, Generation: generation, Meta: meta{sequence, write}}
	switch op := header.Get(headerOperation); {
	case op == "DEL", op == "PURGE", header.Get(headerReason) != "":
		return e
	case value == nil:
		value = []byte{}
	}
	e.Value, e.Version = value, driver.Version(sequence)
	return e
}

// expected is the sequence of the last message of e's key, 0 if there is none.
func expected(e driver.Entry) uint64 {
	if e.Exists() {
		return uint64(e.Version)
	}
	m, _ := e.Meta.(meta)
	return m.sequence
}

// Resolve implements driver.Resolver. A message has the id of its write, so an
// entry tells if that was s; if another was made since, nothing tells.
func (s *store) Resolve(w driver.Swap, now driver.Entry) driver.Outcome {
	if m, ok := now.Meta.(meta); ok && m.write == w.ID {
		return driver.Applied
	}
	return driver.Unknown
}
