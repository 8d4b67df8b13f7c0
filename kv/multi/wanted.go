package multi

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// WithWanted has a client that is not coordinated do what read returns, a
// configuration file say: the simple switch for a fleet. New asks read, and fails
// if it fails, so that a client that starts late begins where the others are; and
// the client asks again every second. What can't be read or done then is logged,
// and left as it was.
//
// Writes wait for such a switch for ten seconds at most; one that takes longer
// is undone, and tried again after half a minute or once read returns something
// else. The client lists itself below .polykv/clients/ in each store that is
// not spread by gossip, or in both if both are: "polykv migrate converge" waits
// there for all to follow.
func WithWanted(read func() (Update, error)) Option { return func(c *core) { c.wanted = read } }

const (
	wantedEvery = time.Second
	wantedPause = 10 * time.Second // how long writes wait for a switch at most
	wantedAgain = 30 * time.Second // the pause after a switch that failed
)

// beginWanted has the configuration begin with what is wanted.
func (c *core) beginWanted() error {
	if c.cfg.Coordinated {
		return errors.New("coordinated: what is wanted is for clients that are not coordinated; this one goes by the stores' records")
	}
	u, err := c.wanted()
	if err != nil {
		return fmt.Errorf("what is wanted: %w", err)
	}
	if u.Primary != "" {
		c.cfg.Primary = u.Primary
	}
	if u.Mirror != nil {
		c.cfg.Mirror = *u.Mirror
	}
	return nil
}

// followWanted does what is wanted until Close.
func (c *core) followWanted(m *manual) {
	ticks := time.Tick(wantedEvery)
	var failed Update
	var at time.Time // when it failed; zero: nothing has
	for {
		select {
		case <-ticks:
		case <-c.ctx.Done():
			return
		}
		u, err := c.wanted()
		switch {
		case err != nil:
			m.cannot(err)
			continue
		case u.equal(failed) && time.Since(at) < wantedAgain:
			continue
		}
		at = time.Time{}
		if err = m.become(u); err != nil {
			failed, at = u, time.Now()
		}
		m.cannot(err)
	}
}

func (u Update) equal(v Update) bool {
	return u.Primary == v.Primary && (u.Mirror == nil) == (v.Mirror == nil) && (u.Mirror == nil || *u.Mirror == *v.Mirror)
}

// become applies what of u is not so yet.
func (m *manual) become(u Update) error {
	if u.Mirror != nil && *u.Mirror == m.mirrors.Load() {
		u.Mirror = nil
	}
	if u.Primary == m.core.stores[m.route.Load().at].name {
		u.Primary = ""
	}
	ctx, cancel := context.WithTimeout(m.core.ctx, wantedPause)
	defer cancel()
	return m.core.do(ctx, u)
}

// cannot notes why what is wanted can't be done; nil: it is done.
func (m *manual) cannot(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	m.mu.Lock()
	news := m.problem != text
	m.problem = text
	m.mu.Unlock()
	if !news || m.core.ctx.Err() != nil {
		return
	}
	m.notify()
	if err != nil {
		m.core.log.Warn("polykv: what is wanted of this client can't be done; it stays as it is", "error", err)
	}
}
