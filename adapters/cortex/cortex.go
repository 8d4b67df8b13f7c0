// Package cortex joins polykv to Cortex: its clients to Cortex's code, Cortex's
// clients to polykv's, Cortex's values to polykv's gossip, and Cortex's
// configuration to polykv's. docs/adoption.md shows what to change.
package cortex

import (
	"fmt"
	"time"

	cortexkv "github.com/cortexproject/cortex/pkg/ring/kv"
	cortexcodec "github.com/cortexproject/cortex/pkg/ring/kv/codec"
	"github.com/cortexproject/cortex/pkg/ring/kv/memberlist"
	"github.com/golang/snappy"

	"github.com/polykv/polykv/adapters/hostkv"
	"github.com/polykv/polykv/kv"
)

// Codec is a codec of Cortex as one of polykv, for every store. See
// [hostkv.Codec].
type Codec = hostkv.Codec[memberlist.Mergeable]

// NewCodec returns c as a codec of polykv. The bytes are those of c, so clients
// of Cortex and of polykv may share Consul and etcd. Values that are
// memberlist.Mergeable, as ring.Desc and ha.ReplicaDesc are, merge on polykv's
// gossip by their own rules.
//
// DynamoDB alone uses the other two methods of Cortex's codecs, for several
// keys, and polykv doesn't.
func NewCodec(c cortexcodec.Codec) *Codec {
	return &Codec{Host: c, Marshal: marshal(c), Clone: clone}
}

// clone asserts what Cortex's own clients do.
func clone(m memberlist.Mergeable) memberlist.Mergeable {
	copied, ok := m.Clone().(memberlist.Mergeable)
	if !ok {
		panic(fmt.Sprintf("the clone of a %T doesn't merge", m))
	}
	return copied
}

// marshal returns Encode of c. That of Proto writes the entries of maps in a
// random order; here they are in the same one each time.
func marshal(c cortexcodec.Codec) func(value any) ([]byte, error) {
	if _, ok := c.(cortexcodec.Proto); !ok {
		return c.Encode
	}
	return hostkv.Stable(c, func(data []byte) []byte { return snappy.Encode(nil, data) })
}

// Client is a client of polykv as Cortex's code expects one, see
// [hostkv.View].
type Client struct{ *hostkv.View }

var _ cortexkv.Client = Client{}

// NewClient returns c as a client of Cortex, for kv.Config.Mock and the
// constructors that take a client. c must have been made with [NewCodec],
// through whatever wrappers; anything else is refused. Close closes c.
func NewClient(c kv.Client) (Client, error) {
	v, err := hostkv.NewView(c)
	return Client{v}, err
}

// LastUpdateTime is the present time, as it is with Cortex's own clients of all
// stores but DynamoDB: what is read was current when it was read.
func (Client) LastUpdateTime(string) time.Time { return time.Now().UTC() }

// Use returns a client of Cortex as one of polykv, for example as a side of
// kv/multi with which a fleet leaves Cortex's gossip. c is the codec that the
// client was made with. See [hostkv.Use] for what holds.
func Use(client cortexkv.Client, c cortexcodec.Codec, o hostkv.Options) kv.Client {
	if _, ok := client.(*memberlist.Client); ok {
		o.Local = true
	}
	return hostkv.Use(client, NewCodec(c), o)
}
