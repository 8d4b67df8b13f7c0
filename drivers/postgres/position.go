package postgres

import (
	"context"
	"math"

	"github.com/polykv/polykv/kv/driver"
)

var _ driver.Locator = (*store)(nil)

// position is a driver.Position: the table at a version. It counts while the
// server runs on, since one that was stopped may have been set back: then it may
// give versions again that it gave before.
type position struct {
	origin
	gen uint64 // of the history
	now uint64 // version of the last write

	forgotten uint64 // up to this version, rows of removed keys may be gone
}

// Covers implements driver.Position.
func (p *position) Covers(other driver.Position) bool {
	o, ok := other.(*position)
	return ok && p.same(o) && p.now >= o.now
}

// same reports whether both are of one history.
func (p *position) same(o *position) bool { return p.origin == o.origin && p.gen == o.gen }

// Locate implements driver.Locator: of the writes since from, the last one in the
// range tells.
func (s *store) Locate(ctx context.Context, r driver.Range, from driver.Position) (driver.Position, error) {
	since, ok := from.(*position)
	if !ok {
		since = &position{now: math.MaxInt64}
	}
	v, err := s.read(ctx, query{rng: r, newer: true, since: since.now, last: true, keysOnly: true, limit: 1})
	if err != nil {
		return nil, err
	}
	if since.same(&v.at) && v.at.forgotten <= since.now {
		v.at.now = max(v.last, since.now)
	}
	return &v.at, nil
}
