package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Wanted is what the clients of a fleet that is not coordinated read, each for
// itself and again and again, that they should do: see multi.WithWanted.
type Wanted struct {
	Primary string `json:"primary"`          // the name of the store
	Mirror  *bool  `json:"mirror,omitempty"` // whether to mirror into the other one; nil: either is right
}

// Followers says how far a fleet has followed what is wanted.
type Followers struct {
	Clients  []ClientStatus `json:"clients"`
	Followed int            `json:"followed"` // live clients that do what is wanted

	// Behind are the live clients that don't, each with the reason.
	Behind []string `json:"behind"`
}

// NotFollowedError says that not every client does what is wanted. It matches
// ErrRefused.
type NotFollowedError struct {
	Followers
	Expected int // how many clients there are to be, at least
}

// Error says who is missing or behind.
func (e *NotFollowedError) Error() string {
	var texts []string
	if n := e.Followed + len(e.Behind); n < e.Expected {
		texts = append(texts, fmt.Sprintf("%d clients were seen, %d were expected", n, e.Expected))
	}
	return "not every client does what is wanted: " + strings.Join(append(texts, e.Behind...), "; ")
}

// Unwrap makes it match ErrRefused.
func (e *NotFollowedError) Unwrap() error { return ErrRefused }

// Fleet is a fleet that is not coordinated and does what it reads that is
// wanted. The clients switch by themselves: it removes what those left that are
// gone, and changes nothing else. It is safe for concurrent use.
type Fleet struct {
	sides   []*side.Side
	tracker tracker
}

// NewFleet returns the fleet whose clients tell of themselves in these stores:
// those of its two that are not spread by gossip, or both if both are. The
// caller closes them.
func NewFleet(stores ...Backend) (*Fleet, error) {
	f := &Fleet{}
	for _, b := range stores {
		s, err := side.New(b.Name, b.Client, b.Codec)
		if err != nil {
			return nil, err
		}
		f.sides = append(f.sides, s)
	}
	return f, nil
}

// Look tells who does what is wanted. It is refused if the stores take part in
// a coordinated migration, where their records say what clients do.
func (f *Fleet) Look(ctx context.Context, w Wanted) (Followers, error) {
	for _, s := range f.sides {
		record, version, err := s.ReadRecord(ctx)
		switch {
		case errors.Is(err, kv.ErrNotSupported):
		case err != nil:
			return Followers{}, err
		case version != 0 && record.State != side.Retired && record.State != side.Primary:
			return Followers{}, fmt.Errorf("%w: store %q is %s in a coordinated migration, whose records say what clients do: say which stage is wanted, not which primary",
				ErrRefused, s.Name(), record.State)
		}
	}
	all, err := f.tracker.clients(ctx, f.sides)
	if err = errors.Join(err, forget(ctx, f.sides, all)); err != nil {
		return Followers{}, err
	}
	seen := Followers{Clients: []ClientStatus{}, Behind: []string{}}
	for _, c := range all {
		if c.Gone {
			continue
		}
		seen.Clients = append(seen.Clients, c)
		switch why := w.behind(c); {
		case c.Late: // it crashed, or is cut off
		case why == "":
			seen.Followed++
		default:
			seen.Behind = append(seen.Behind, fmt.Sprintf("client %s: %s", c, why))
		}
	}
	return seen, nil
}

// behind says why a client doesn't do what is wanted; "": it does.
func (w Wanted) behind(c ClientStatus) string {
	why := ""
	switch {
	case c.Mode != side.ModeWanted:
		why = "it is coordinated, and goes by the stores' records"
	case c.Primary != w.Primary:
		why = fmt.Sprintf("it uses store %q", c.Primary)
	case w.Mirror != nil && *w.Mirror && c.Mirror == "":
		why = "it does not mirror"
	case w.Mirror != nil && !*w.Mirror && c.Mirror != "":
		why = fmt.Sprintf("it mirrors into store %q", c.Mirror)
	}
	if why != "" && c.Problem != "" {
		why += ": " + c.Problem
	}
	return why
}

// Converge waits until every client does what is wanted, and at least as many
// as expected; 0: one. What it waited for in vain is a [*NotFollowedError].
func (f *Fleet) Converge(ctx context.Context, w Wanted, expect int, o ConvergeOptions) (Followers, error) {
	wait := o.begin()
	for {
		seen, err := f.Look(ctx, w)
		if err != nil {
			return seen, err
		}
		if len(seen.Behind) == 0 && seen.Followed >= max(expect, 1) {
			return seen, nil
		}
		if err := wait.again(ctx, &NotFollowedError{Followers: seen, Expected: max(expect, 1)}); err != nil {
			return seen, err
		}
	}
}
