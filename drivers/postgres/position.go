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
	q := newer(r, since.now)
	q.keysOnly, q.order, q.limit = true, "e.version DESC", 1
	found, c, err := s.read(ctx, q)
	if err != nil {
		return nil, err
	}
	at := c.position
	switch {
	case !since.same(&at) || c.forgotten > since.now:
	case len(found) > 0:
		at.now = found[0].version
	default:
		at.now = since.now
	}
	return &at, nil
}

// newer selects what was written in a range after a version.
func newer(r driver.Range, version uint64) query {
	q := query{where: "e.version > $1", args: []any{int64(version)}, order: "e.version"} //nolint:gosec // as it came
	return q.within(r)
}
