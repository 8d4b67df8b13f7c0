package remote

import (
	"context"

	"github.com/polykv/polykv/kv"
)

// Get implements kv.Client.
func (c *client) Get(ctx context.Context, key string) (any, error) {
	m, err := c.do(ctx, "Get", message{Kind: kindGet, Key: []byte(key)}, nil)
	if err != nil {
		return nil, err
	}
	return m.value(), nil
}

// List implements kv.Client.
func (c *client) List(ctx context.Context, prefix string) ([]string, error) {
	m, err := c.do(ctx, "List", message{Kind: kindList, Key: []byte(prefix)}, nil)
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
	_, err := c.do(ctx, "Delete", message{Kind: kindDelete, Key: []byte(key)}, nil)
	return err
}

// CAS implements kv.Client. f runs here, on the caller's goroutine.
func (c *client) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	_, err := c.do(ctx, "CAS", message{Kind: kindCAS, Key: []byte(key)}, func(m message) (answer message, err error) {
		var out any
		out, answer.Go, err = f(m.value())
		switch {
		case err != nil:
		case out == kv.Remove:
			answer.Remove = true
		default:
			if err = answer.setValue(out); err != nil {
				answer.Go = false
			}
		}
		return answer, err
	})
	return err
}

// WatchKey implements kv.Client.
func (c *client) WatchKey(ctx context.Context, key string, f func(any) bool) {
	c.WatchPrefix(ctx, key, func(shown string, value any) bool { return shown != key || f(value) })
}

// WatchPrefix implements kv.Client. It returns when f doesn't want more, and with
// nobody to tell why it ended otherwise.
func (c *client) WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool) {
	_, _ = c.do(ctx, "Watch", message{Kind: kindWatch, Key: []byte(prefix)}, func(m message) (message, error) {
		return message{Go: f(string(m.Key), m.value())}, nil
	})
}
