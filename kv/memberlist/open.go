package memberlist

import (
	"context"
	"errors"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// Open starts a node of its own for one client, and returns the client: its
// Close closes the node too. It waits until the client can read what the
// cluster has, but no longer than Config.ReadyTimeout and without failing if
// nobody is there. A program with several clients calls [Start] instead, and
// [Node.Client] for each.
//
// opts may be nil.
//
// views are the codecs of views that will be made of the client by kv.WithCodec:
// a node must know all its codecs from the start.
func Open(ctx context.Context, cfg Config, c codec.Codec, opts *kv.Options, views ...codec.Codec) (*Client, error) {
	var o Options
	if opts != nil {
		o.Logger = opts.Logger
	}
	n, err := StartWith(ctx, cfg, o, append([]codec.Codec{c}, views...)...)
	if err != nil {
		return nil, err
	}
	client, err := n.Client(c, opts)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	waiting, cancel := context.WithTimeout(ctx, cfg.ReadyTimeout)
	defer cancel()
	if err := n.WaitReady(waiting, 0); err != nil {
		n.logger.Warn("gossip: the client begins before it has what other nodes have", "error", err)
	}
	return &Client{Forward: kv.Forward{Client: client}, node: n}, nil
}

// Client is a kv.Client with a node of its own.
type Client struct {
	kv.Forward
	node *Node
}

var _ kv.Client = (*Client)(nil)

// Node returns the node, which is closed with the client.
func (c *Client) Node() *Node { return c.node }

// Close closes the client and its node.
func (c *Client) Close() error { return c.node.Close() }

// Raw returns the raw view, whose Close closes the node too.
func (c *Client) Raw() (kv.Client, error) { return c.around(c.Forward.Raw()) }

// WithCodec returns the view of another codec of the node, likewise.
func (c *Client) WithCodec(cdc codec.Codec) (kv.Client, error) {
	return c.around(c.Forward.WithCodec(cdc))
}

func (c *Client) around(view kv.Client, err error) (kv.Client, error) {
	if err != nil {
		return nil, err
	}
	return &Client{Forward: kv.Forward{Client: view}, node: c.node}, nil
}
