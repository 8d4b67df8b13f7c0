package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/polykv/polykv/kv/driver"
)

// Get implements Client.
func (c *client) Get(ctx context.Context, key string) (any, error) {
	_, value, err := c.get(ctx, "Get", driver.GetRequest{Key: key, AllowStale: true})
	return value, err
}

// GetGuarded implements GuardedClient.
func (c *client) GetGuarded(ctx context.Context, key string, guards ...Guard) (any, error) {
	_, value, err := c.get(ctx, "GetGuarded", driver.GetRequest{Key: key, Guards: slices.Clone(guards)})
	return value, err
}

// GetVersion implements VersionedClient.
func (c *client) GetVersion(ctx context.Context, key string, guards ...Guard) (any, Version, error) {
	entry, value, err := c.get(ctx, "GetVersion", driver.GetRequest{Key: key, Guards: slices.Clone(guards)})
	return value, entry.Version, err
}

func (c *client) get(ctx context.Context, op string, req driver.GetRequest) (driver.Entry, any, error) {
	if err := c.admit(ctx, req.Key, req.Guards); err != nil {
		return driver.Entry{}, nil, c.fail(op, req.Key, err)
	}
	entry, err := c.engine.readOne(ctx, req)
	if err != nil {
		return driver.Entry{}, nil, c.fail(op, req.Key, err)
	}
	c.engine.sawGeneration(entry.Generation)
	if !entry.Exists() {
		return entry, nil, nil
	}
	value, err := c.open(storedIn(entry), false)
	if err != nil {
		return entry, nil, c.fail(op, req.Key, err)
	}
	return entry, value, nil
}

// readOne reads one key, again and again if need be.
func (e *engine) readOne(ctx context.Context, req driver.GetRequest) (entry driver.Entry, err error) {
	if e.direct() { // nearly always this is all there is to it
		if entry, err = e.store.Get(ctx, req); err == nil {
			return entry, nil
		}
	}
	err = e.read(ctx, "get", KeyRange(req.Key), func(ctx context.Context) (err error) {
		entry, err = e.store.Get(ctx, req)
		return err
	})
	return entry, err
}

// Ping implements Pinger.
func (c *client) Ping(ctx context.Context) error {
	return c.pingKey(ctx, ReservedSegment+"/ping")
}

// keyPinger is how Prefix pings: with permissions that end at a prefix, only
// a key below it tells whether the store is usable.
type keyPinger interface {
	pingKey(ctx context.Context, key string) error
}

func (c *client) pingKey(ctx context.Context, key string) error {
	if c.engine.ctx.Err() != nil {
		return c.fail("Ping", "", ErrClosed)
	}
	err := c.engine.attempt(ctx, "get", KeyRange(key), c.engine.opts.RetryTimeout, func(ctx context.Context) error {
		_, err := c.engine.store.Get(ctx, driver.GetRequest{Key: key})
		return err
	})
	if err == nil {
		return nil
	}
	final, err := c.engine.final(ctx, err)
	if !final {
		err = because(ErrUnavailable, err)
	}
	return c.fail("Ping", "", err)
}

// List implements Client.
func (c *client) List(ctx context.Context, prefix string) ([]string, error) {
	if c.engine.ctx.Err() != nil {
		return nil, c.fail("List", prefix, ErrClosed)
	}
	var keys []string
	req := driver.ScanRequest{Prefix: prefix, KeysOnly: true, Bare: true, AllowStale: true}
	for page, err := range c.engine.pages(ctx, req) {
		switch {
		case errors.Is(err, driver.ErrSnapshotLost):
			keys = nil // the pages start again
		case err != nil:
			return nil, c.fail("List", prefix, err)
		case keys == nil:
			keys = page.Keys
		default:
			keys = append(keys, page.Keys...)
		}
		keys = slices.Grow(keys, len(page.Entries))
		for _, entry := range page.Entries {
			keys = append(keys, entry.Key)
		}
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return !c.visible(ctx, prefix, key) })
	if keys == nil {
		keys = []string{}
	}
	return keys, nil
}

// Entries implements EntryReader.
func (c *client) Entries(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if c.engine.ctx.Err() != nil {
			yield(Entry{}, c.fail("Entries", prefix, ErrClosed))
			return
		}
		for page, err := range c.engine.pages(ctx, driver.ScanRequest{Prefix: prefix}) {
			switch {
			case errors.Is(err, driver.ErrSnapshotLost):
				continue // what was yielded stays; the rest is read at a newer moment
			case err != nil:
				yield(Entry{}, c.fail("Entries", prefix, err))
				return
			}
			for _, entry := range page.Entries {
				if !c.visible(ctx, prefix, entry.Key) {
					continue
				}
				value, err := c.open(storedIn(entry), false)
				if err != nil {
					err = c.fail("Entries", entry.Key, err)
				}
				if !yield(Entry{Key: entry.Key, Value: value, Version: entry.Version}, err) {
					return
				}
			}
		}
	}
}

// pages reads a prefix page by page. Each page is retried by itself. When the
// store can no longer show the moment of the first page, it yields
// ErrSnapshotLost and goes on at a newer moment: keys only, from the start
// again; entries, behind the last one, since who asks for
// values may want more than a store keeps history for. Any other error is the
// last thing it yields.
func (e *engine) pages(ctx context.Context, first driver.ScanRequest) iter.Seq2[driver.Page, error] {
	return func(yield func(driver.Page, error) bool) {
		if ctx.Err() != nil {
			yield(driver.Page{}, ctxError(ctx, nil))
			return
		}
		req := first
		req.Limit = e.opts.ScanPage
		if req.KeysOnly {
			req.Limit = e.opts.ListPage
		}
		restarts, last := 0, 0
		for more := true; more; {
			page, err := e.page(ctx, &req, last)
			more = false
			switch {
			case errors.Is(err, driver.ErrSnapshotLost) && restarts < e.opts.MaxAttempts:
				restarts++
				page, err, more = driver.Page{}, driver.ErrSnapshotLost, true
				req.Snapshot = nil
				if first.KeysOnly { // a listing shows one moment, so it starts again
					req.After = ""
				}
			case errors.Is(err, driver.ErrSnapshotLost):
				// As plain text, for the caller it would be a restart.
				err = fmt.Errorf("%w: the listing was overtaken %d times: %s", ErrUnavailable, restarts, err.Error())
			case err == nil && page.More && len(page.Keys)+len(page.Entries) > 0:
				more, last = true, len(page.Keys)+len(page.Entries)
				req.Snapshot, req.After = page.Snapshot, lastKey(page)
			}
			more = yield(page, err) && more
		}
	}
}

func lastKey(p driver.Page) string {
	if n := len(p.Keys); n > 0 {
		return p.Keys[n-1]
	}
	return p.Entries[len(p.Entries)-1].Key
}

// page reads one page. A page that doesn't come in the time of an attempt is
// asked for again a quarter as large, since the line may be slow; last is how
// many entries the page before had. The pages after it stay small.
func (e *engine) page(ctx context.Context, req *driver.ScanRequest, last int) (driver.Page, error) {
	var page driver.Page
	var lost error
	err := e.read(ctx, "scan", PrefixRange(req.Prefix), func(ctx context.Context) (err error) {
		page, err = e.store.Scan(ctx, *req)
		if err != nil && ctx.Err() != nil {
			size := req.Limit
			if last > 0 {
				size = min(size, last)
			}
			req.Limit = max(1, size/4)
		}
		if errors.Is(err, driver.ErrSnapshotLost) {
			lost = err // asking again for the same page is no use
			return nil
		}
		return err
	})
	if err == nil {
		err = lost
	}
	if err == nil {
		e.sawGeneration(page.Generation)
	}
	return page, err
}
