package fleetpage_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv/multi/migrate"
	"github.com/polykv/polykv/kv/multi/migrate/fleetpage"
)

// asking is a migration that shows with what ctx it is asked.
type asking func(ctx context.Context) (migrate.Status, error)

func (f asking) Status(ctx context.Context) (migrate.Status, error) { return f(ctx) }

// However many look, the stores are asked every two seconds at most, and for half a
// minute at most, whoever goes away meanwhile.
func TestStoresAreAskedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last context.Context
		asked := 0
		h := fleetpage.Handler(asking(func(ctx context.Context) (migrate.Status, error) {
			if deadline, limited := ctx.Deadline(); ctx.Err() != nil || !limited || time.Until(deadline) != 30*time.Second {
				t.Errorf("asked with %v until %v", ctx.Err(), deadline)
			}
			last = ctx
			asked++
			time.Sleep(10 * time.Second)
			return migrate.Status{}, errors.New("both are away")
		}))
		left, leave := context.WithCancel(t.Context())
		leave()
		for _, c := range []struct {
			after time.Duration
			asked int
		}{{0, 1}, {2*time.Second - 1, 1}, {1, 2}, {time.Second, 2}} {
			time.Sleep(c.after)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(left, http.MethodGet, "/", nil))
			if asked != c.asked || !strings.Contains(w.Body.String(), "both are away") {
				t.Errorf("after %v they were asked %d times, and the page is %s", c.after, asked, w.Body)
			}
			if last.Err() == nil {
				t.Error("something goes on after the answer")
			}
		}
	})
}

// Whether a client is ready shows where that counts.
func TestReadinessIsShownWhereItCounts(t *testing.T) {
	for phase, shown := range map[migrate.Phase]bool{migrate.Mirroring: true, migrate.Reversed: true, migrate.Sealed: false, migrate.None: false} {
		f := fleet()
		f.status.Phase = phase
		if body := get(t, fleetpage.Handler(f), "/").Body.String(); strings.Contains(body, `id="ready"`) != shown || strings.Contains(body, ">READY<") != shown {
			t.Errorf("%s: %s", phase, body)
		}
	}
}
