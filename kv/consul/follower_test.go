package consul

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// follower counts the requests of the session that it follows.
type follower struct {
	*drivertest.Follower
	requests atomic.Int64
}

func follow(t testing.TB, s *store, r driver.Range) *follower {
	t.Helper()
	f := &follower{}
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { f.requests.Add(1) },
	})
	f.Follower = drivertest.Follow(ctx, t, s, r, nil)
	return f
}
