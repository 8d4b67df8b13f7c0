package multi

import (
	"context"
	"time"

	"github.com/polykv/polykv/kv"
)

// selector says which store is primary: by hand ([manual]), or as the records have it
// ([records]).
type selector interface {
	// writing returns the route of a write, once there is one. pass is nil
	// where nothing has to be known of writes under way.
	writing(ctx context.Context, w *waiting) (r *route, p *permit, err error)

	// reading returns the route of a read, once there is one.
	reading(ctx context.Context, w *waiting) (*route, error)

	// again reports whether a call that took route r and ended with err must
	// be made again, on the route that it gets then. Such a call wrote nothing.
	again(r *route, err error, w *waiting) bool

	// confirm reports whether what was read on route r, without its guard,
	// was read from the store that was primary at some moment during the call.
	confirm(ctx context.Context, r *route) (bool, error)

	// mirroring says whether tasks of this direction may run now, and under
	// which guards.
	mirroring(to int) (mirrorState, []kv.Guard)

	// lost tells that the guard of a mirror into a store doesn't hold.
	lost(to int)

	// limits says whose limits are the client's, and whether its writes carry
	// a guard.
	limits() (at int, guarded bool)

	// status fills in what the selector knows.
	status(s *Status)

	// leave is called at the beginning of Close.
	leave()
}

// route is where a call goes. A change of the primary makes a new one.
type route struct {
	at     int                // the primary
	guards []kv.Guard         // what every call carries; nil: nothing
	ctx    context.Context    // ends once another store is primary: watches stay for so long
	leave  context.CancelFunc // ends ctx
	epoch  uint64             // marks versions; see mark
	sealed bool               // the store takes no writes, and reads must be confirmed
}

// waiting is how long one call has waited for a store to be primary.
type waiting struct {
	deadline time.Time // zero: it has not waited yet
	ticket   uint64    // what must have been read of the records since; see records
	bad      *route    // the route that proved wrong
}
