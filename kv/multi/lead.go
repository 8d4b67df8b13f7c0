package multi

import (
	"context"
	"time"

	"github.com/polykv/polykv/kv"
)

// lead says which store leads: by hand ([manual]), or as the records have it
// ([records]).
type lead interface {
	// writing returns the route of a write, once there is one. pass is nil
	// where nothing has to be known of writes under way.
	writing(ctx context.Context, w *waiting) (r *route, p *pass, err error)

	// reading returns the route of a read, once there is one.
	reading(ctx context.Context, w *waiting) (*route, error)

	// again reports whether a call that took route r and ended with err must
	// be made again, on the route that it gets then. Such a call wrote nothing.
	again(r *route, err error, w *waiting) bool

	// confirm reports whether what was read on route r, without its guard,
	// was read from the store that led at some moment during the call.
	confirm(ctx context.Context, r *route) (bool, error)

	// mirroring says whether tasks of this direction may run now, and under
	// which guard.
	mirroring(to int) (lineState, *kv.Guard)

	// lost tells that the guard of a mirror into a store doesn't hold.
	lost(to int)

	// limits says whose limits are the client's, and whether its writes carry
	// a guard.
	limits() (at int, guarded bool)

	// status fills in what the lead knows.
	status(s *Status)

	// farewell is called at the begin of Close.
	farewell()
}

// route is where a call goes. A change of the lead makes a new one.
type route struct {
	at     int       // the store that leads
	guard  *kv.Guard // what every call carries; nil: nothing
	term   *term
	epoch  uint64 // marks versions; see mark
	sealed bool   // the store takes no writes, and reads must be confirmed
}

// term is the time during which one store leads without a break, though its
// record may change. Watches stay for a term.
type term struct {
	ctx  context.Context
	over context.CancelFunc
}

func newTerm(parent context.Context) *term {
	ctx, cancel := context.WithCancel(parent)
	return &term{ctx, cancel}
}

// waiting is how long one call has waited for a store to lead.
type waiting struct {
	deadline time.Time // zero: it has not waited yet
	ticket   uint64    // what must have been read of the records since; see records
	bad      *route    // the route that proved wrong
}
