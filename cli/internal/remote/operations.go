package remote

import (
	"context"

	"github.com/polykv/polykv/kv"
)

// Get implements kv.Client.
func (c *client) Get(ctx context.Context, key string) (any, error) {
	m, err := c.do(ctx, "Get", message{Kind: kindGet, Key: []byte(key)}, nil)
	if err == nil {
		err = fromWire(m.Error, nil)
	}
	if err != nil {
		return nil, err
	}
	return m.value(), nil
}

// List implements kv.Client.
func (c *client) List(ctx context.Context, prefix string) ([]string, error) {
	m, err := c.do(ctx, "List", message{Kind: kindList, Key: []byte(prefix)}, nil)
	if err == nil {
		err = fromWire(m.Error, nil)
	}
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(m.Keys))
	for _, key := range m.Keys {
		keys = append(keys, string(key))
	}
	return keys, nil
}

// Delete implements kv.Client.
func (c *client) Delete(ctx context.Context, key string) error {
	m, err := c.do(ctx, "Delete", message{Kind: kindDelete, Key: []byte(key)}, nil)
	if err != nil {
		return err
	}
	return fromWire(m.Error, nil)
}

// CAS implements kv.Client. f runs here, on the caller's goroutine.
func (c *client) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	var last error // of f
	m, err := c.do(ctx, "CAS", message{Kind: kindCAS, Key: []byte(key)}, func(m message) (answer message) {
		var out any
		out, answer.Go, last = f(m.value())
		switch {
		case last != nil:
		case out == kv.Remove:
			answer.Remove = true
		default:
			if last = answer.setValue(out); last != nil {
				answer.Go = false
			}
		}
		answer.Error = toWire(last)
		return answer
	})
	if err != nil {
		return err
	}
	return fromWire(m.Error, last)
}

// WatchKey implements kv.Client.
func (c *client) WatchKey(ctx context.Context, key string, f func(any) bool) {
	c.watch(ctx, message{Kind: kindWatchKey, Key: []byte(key)}, func(_ string, value any) bool { return f(value) })
}

// WatchPrefix implements kv.Client.
func (c *client) WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool) {
	c.watch(ctx, message{Kind: kindWatchPrefix, Key: []byte(prefix)}, f)
}

// watch returns when f doesn't want more, and with nobody to tell why it ended
// otherwise.
func (c *client) watch(ctx context.Context, request message, f func(key string, value any) bool) {
	_, _ = c.do(ctx, "Watch", request, func(m message) message {
		return message{Go: f(string(m.Key), m.value())}
	})
}
