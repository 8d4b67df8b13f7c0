// Package fleetpage shows where a migration stands as a web page: both records,
// what comes next, every client that was seen, and what is in the way of a
// cutover. It is what "polykv migrate status --serve" serves.
package fleetpage

import (
	"context"
	_ "embed"
	"net/http"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/webpage"
	"github.com/polykv/polykv/kv/multi/migrate"
)

//go:embed fleetpage.gohtml
var text string

var page = webpage.MustParse("fleet", text)

const (
	// refresh is how often the page loads itself again.
	refresh = 5 * time.Second

	// fresh is how long a status is served again, so that the stores are asked
	// no more often however many look.
	fresh = 2 * time.Second

	// patience is how long the stores may take to answer.
	patience = 30 * time.Second
)

// Source is what the page shows; *migrate.Migration is one.
type Source interface {
	Status(ctx context.Context) (migrate.Status, error)
}

// Handler serves the status of s as a page for people, and as JSON (that of
// [migrate.Status]) for requests that have "format=json" in their query or
// prefer JSON by their Accept header. It answers GET and HEAD. The stores are
// asked at most every two seconds.
//
// Names of hosts and stores and error messages are there for whoever can reach
// it: serve it where operators look, not in public.
func Handler(s Source) http.Handler {
	c := &cached{source: s}
	return webpage.Handler(webpage.Options{Title: "polykv: the fleet in a migration", Refresh: refresh}, page,
		func(r *http.Request) (any, error) {
			st, at, err := c.status(r.Context())
			return view{Status: st, At: at}, err
		})
}

// cached asks a source not too often, and one request at a time.
type cached struct {
	source Source

	mu     sync.Mutex
	at     time.Time
	latest migrate.Status
	err    error
}

func (c *cached) status(ctx context.Context) (migrate.Status, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.at) >= fresh {
		// Others wait for the same answer, so one that goes away doesn't end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		c.latest, c.err = c.source.Status(ctx)
		c.at = time.Now()
	}
	return c.latest, c.at, c.err
}

// view is a Status and what only the page shows of it. As JSON it is the Status
// and the time.
type view struct {
	migrate.Status

	At time.Time `json:"at"`
}

// Stores are both stores.
func (v view) Stores() []migrate.StoreStatus { return []migrate.StoreStatus{v.Source, v.Target} }

// Judged reports whether a client can be ready or not in this phase.
func (v view) Judged() bool { return v.Phase == migrate.Mirroring || v.Phase == migrate.Reversed }
