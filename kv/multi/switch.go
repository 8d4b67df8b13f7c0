package multi

import (
	"context"
	"fmt"

	"github.com/polykv/polykv/kv"
)

// Update changes a client at run time; see [WithUpdates]. A zero field changes
// nothing.
type Update struct {
	Primary string // the name of the store to make primary
	Mirror  *bool  // whether to mirror
}

// SetPrimary makes the store of that name primary: the simple switch, see the
// package documentation. It stops the writes of this client, waits until those
// under way have a definite outcome, mirrors what is left to be mirrored, and
// lets the writes go on in the other store. Watches move over with them.
// Callbacks of CAS are not waited for: those that run are run again.
//
// When ctx ends before that, nothing has changed. Keys that were never
// mirrored don't move by themselves: run Backfill and Verify before.
//
// A coordinated client returns kv.ErrNotSupported: there the records decide.
func (c *Client) SetPrimary(ctx context.Context, name string) error {
	return c.core.fail("SetPrimary", "", c.core.setPrimary(ctx, name))
}

func (c *core) setPrimary(ctx context.Context, name string) error {
	if c.ctx.Err() != nil {
		return kv.ErrClosed
	}
	m, ok := c.selector.(*manual)
	if !ok {
		return errByRecords
	}
	for at, s := range c.stores {
		if s.name == name {
			return m.switchTo(ctx, at)
		}
	}
	return fmt.Errorf("there is no store %q; the stores are %q and %q", name, c.stores[0].name, c.stores[1].name)
}

var errByRecords = fmt.Errorf(`%w: this client is coordinated: "polykv migrate cutover" changes the primary, for all clients at once`, kv.ErrNotSupported)

// SetMirroring turns mirroring on or off. What is pending when it is turned
// off is dropped; when it is turned on, a repair is run in the background,
// which copies what was written meanwhile. A coordinated client returns
// kv.ErrNotSupported.
func (c *Client) SetMirroring(on bool) error {
	return c.core.fail("SetMirroring", "", c.core.setMirroring(on))
}

func (c *core) setMirroring(on bool) error {
	if c.ctx.Err() != nil {
		return kv.ErrClosed
	}
	m, ok := c.selector.(*manual)
	if !ok {
		return errByRecords
	}
	if wasOff := m.setMirroring(on); on && wasOff {
		c.sweeps.soon()
	}
	return nil
}

// applyUpdates applies what comes from the channel.
func (c *core) applyUpdates() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case u, ok := <-c.updates:
			if !ok {
				return
			}
			if err := c.do(c.ctx, u); err != nil {
				c.log.Error("polykv: an update could not be applied", "primary", u.Primary, "error", err)
			}
		}
	}
}

// do applies u. Mirroring is turned on before a switch and off after it, so that
// what is pending is mirrored first.
func (c *core) do(ctx context.Context, u Update) error {
	if u.Mirror != nil && *u.Mirror {
		if err := c.setMirroring(true); err != nil {
			return err
		}
	}
	if u.Primary != "" {
		if err := c.setPrimary(ctx, u.Primary); err != nil {
			return err
		}
	}
	if u.Mirror != nil && !*u.Mirror {
		return c.setMirroring(false)
	}
	return nil
}

// Primary returns the name of the store that is primary, as far as this client
// knows; empty if none is.
func (c *Client) Primary() string {
	var s Status
	c.core.selector.status(&s)
	return s.Primary
}

// Ready waits until the client knows which store is primary. A client that is
// not coordinated always does. The error says what to run; it matches
// kv.ErrFenced if the records say that no store is primary.
func (c *Client) Ready(ctx context.Context) error {
	var w waiting
	_, err := c.core.selector.reading(ctx, &w)
	return c.core.fail("Ready", "", err)
}
