package hostkv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
)

// maxChanges is how often a View offers a change that isn't newer than the
// value it replaces. Each time takes a second.
const maxChanges = 10

// View is a client of polykv as the code of a host expects one:
//
//   - Values are the host's, and the caller's own: hosts modify what they are
//     given.
//   - Watches don't tell of deletions, for which hosts are not prepared.
//   - CAS returns an error of its callback as it is.
//   - CAS of a value that merges takes the time that a change needs, see
//     [ErrUnchanged], up to ten seconds.
//
// Everything else is as package kv says. Close closes the client.
type View struct {
	client kv.Client
	codec  hostCodec
}

var _ Client = (*View)(nil)

// NewView returns the view of a client that was made with a [Codec]. Any other
// is refused with kv.ErrNotSupported.
func NewView(c kv.Client) (*View, error) {
	cdc, err := kv.CodecOf(c)
	if err != nil {
		return nil, fmt.Errorf("hostkv: %w", err)
	}
	host, ok := cdc.(hostCodec)
	if !ok {
		return nil, fmt.Errorf("hostkv: %w: the client's codec %q is a %T; make the client with the adapter's", kv.ErrNotSupported, cdc.CodecID(), cdc)
	}
	return &View{client: kv.SkipDeletes(c), codec: host}, nil
}

// List implements Client.
func (v *View) List(ctx context.Context, prefix string) ([]string, error) {
	return v.client.List(ctx, prefix)
}

// Get implements Client.
func (v *View) Get(ctx context.Context, key string) (any, error) {
	value, err := v.client.Get(ctx, key)
	if err != nil || value == nil {
		return nil, err
	}
	return v.codec.bare(value, false)
}

// Delete implements Client.
func (v *View) Delete(ctx context.Context, key string) error {
	return v.client.Delete(ctx, key)
}

// CAS implements Client.
func (v *View) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	for offered := 1; ; offered++ {
		err := v.cas(ctx, key, f)
		if !errors.Is(err, ErrUnchanged) || offered == maxChanges {
			return err
		}
		if ended := untilNextSecond(ctx); ended != nil {
			return errors.Join(err, ended)
		}
	}
}

func (v *View) cas(ctx context.Context, key string, f func(any) (any, bool, error)) error {
	var own error // the callback's
	err := v.client.CAS(ctx, key, func(in any) (any, bool, error) {
		if in != nil {
			var failed error
			if in, failed = v.codec.bare(in, true); failed != nil {
				return nil, false, failed
			}
		}
		out, retry, err := f(in)
		own = err
		if err != nil || out == nil || out == kv.Remove {
			return out, retry, err
		}
		return v.codec.wrap(out), retry, nil
	})
	if own != nil && errors.Is(err, own) {
		return own
	}
	return err
}

// untilNextSecond waits until a time in seconds is another one.
func untilNextSecond(ctx context.Context) error {
	now := time.Now()
	return wait.For(ctx, now.Truncate(time.Second).Add(time.Second).Sub(now))
}

// WatchKey implements Client.
func (v *View) WatchKey(ctx context.Context, key string, f func(any) bool) {
	v.client.WatchKey(ctx, key, func(value any) bool {
		own, err := v.codec.bare(value, false)
		return err != nil || f(own)
	})
}

// WatchPrefix implements Client.
func (v *View) WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool) {
	v.client.WatchPrefix(ctx, prefix, func(key string, value any) bool {
		own, err := v.codec.bare(value, false)
		return err != nil || f(key, own)
	})
}

// Close closes the client that the view is of.
func (v *View) Close() error { return v.client.Close() }
