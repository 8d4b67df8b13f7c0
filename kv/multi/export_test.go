package multi

import (
	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// Shared is one more client over the stores of another: what is switched or
// mirrored is theirs together.
type Shared struct{ view }

// Share opens one. The backends lead to the same stores as c's, by clients of
// their own, codec included.
func (c *Client) Share(backends [2]Backend) (*Shared, error) {
	s := &Shared{view{core: c.core}}
	for i, b := range backends {
		var err error
		if s.stores[i], err = newStore(b, nil, false); err != nil {
			return nil, err
		}
		s.clients[i] = b.Client
	}
	return s, nil
}

// Raw is the raw view, which closes the same.
func (s *Shared) Raw() (kv.Client, error) {
	c, err := s.view.Raw()
	raw, ok := c.(*view)
	if err != nil || !ok {
		return nil, err
	}
	return &Shared{*raw}, nil
}

// WithCodec is the view of another codec, which closes the same.
func (s *Shared) WithCodec(cdc codec.Codec) (kv.Client, error) {
	c, err := s.view.WithCodec(cdc)
	view, ok := c.(*Client)
	if err != nil || !ok {
		return nil, err
	}
	return &Shared{view.view}, nil
}

// Close closes the clients that s does not share.
func (s *Shared) Close() error {
	var last error
	for _, c := range s.clients {
		if err := c.Close(); err != nil {
			last = err
		}
	}
	return last
}

var _ kv.Client = (*Shared)(nil)
