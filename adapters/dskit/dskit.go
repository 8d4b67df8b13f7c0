// Package dskit joins polykv to programs that use dskit's kv, such as Mimir,
// Loki, Tempo and Pyroscope: its clients to their code, their clients to
// polykv's, their values to polykv's gossip, and their configuration to
// polykv's. docs/adoption.md shows what to change in such a program.
package dskit

import (
	"github.com/golang/snappy"
	dskitkv "github.com/grafana/dskit/kv"
	dskitcodec "github.com/grafana/dskit/kv/codec"
	"github.com/grafana/dskit/kv/memberlist"

	"github.com/polykv/polykv/adapters/hostkv"
	"github.com/polykv/polykv/kv"
)

// Codec is a codec of dskit as one of polykv, for every store. See
// [hostkv.Codec].
type Codec = hostkv.Codec[memberlist.Mergeable]

// NewCodec returns c as a codec of polykv. The bytes are those of c, so clients
// of dskit and of polykv may share Consul and etcd. Values that are
// memberlist.Mergeable, as ring.Desc and ring.PartitionRingDesc are, merge on
// polykv's gossip by their own rules.
func NewCodec(c dskitcodec.Codec) *Codec {
	return &Codec{Host: c, Marshal: marshal(c), Clone: memberlist.Mergeable.Clone}
}

// marshal returns Encode of c. That of Proto writes the entries of maps in a
// random order; here they are in the same one each time.
func marshal(c dskitcodec.Codec) func(value any) ([]byte, error) {
	if _, ok := c.(dskitcodec.Proto); !ok {
		return c.Encode
	}
	return hostkv.Stable(c, func(data []byte) []byte { return snappy.Encode(nil, data) })
}

// NewClient returns c as a client of dskit, for kv.Config.Mock and the
// constructors that take a client. c must have been made with [NewCodec],
// through whatever wrappers; anything else is refused. Close closes c.
func NewClient(c kv.Client) (*hostkv.View, error) { return hostkv.NewView(c) }

var _ dskitkv.Client = (*hostkv.View)(nil)

// Use returns a client of dskit as one of polykv, for example as a side of
// kv/multi with which a fleet leaves dskit's gossip. c is the codec that the
// client was made with. See [hostkv.Use] for what holds.
func Use(client dskitkv.Client, c dskitcodec.Codec, o hostkv.Options) kv.Client {
	if _, ok := client.(*memberlist.Client); ok {
		o.Local = true
	}
	return hostkv.Use(client, NewCodec(c), o)
}
