package migrate

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// errFault is what a request gets that is to fail.
var errFault = driver.Permanent(errors.New("this request fails"))

// failAt has the nth request to a store fail that r's own clients make, and counts
// them.
func (r *rig) failAt(store, n int) *atomic.Int64 {
	requests := new(atomic.Int64)
	r.hooks[store].getErr = func() error {
		if requests.Add(1) == int64(n) {
			return errFault
		}
		return nil
	}
	r.hooks[store].onSwap = func(driver.Swap) error { return r.hooks[store].getErr() }
	return requests
}

// Whichever request of a command fails, its error says so, and clients can write
// afterwards.
func TestEveryFaultIsTold(t *testing.T) {
	command := func(c func(*Migration, context.Context) (Result, error)) func(context.Context, *Migration) error {
		return func(ctx context.Context, m *Migration) error {
			_, err := c(m, ctx)
			return err
		}
	}
	for name, c := range map[string]struct {
		states string
		run    func(context.Context, *Migration) error
		spared int // requests that nothing depends on
		most   int // bytes that the target takes; 0: any
	}{
		"plan":     {"none none", func(ctx context.Context, m *Migration) error { _, err := m.Plan(ctx); return err }, 1, 0},
		"sizes":    {"none none", func(ctx context.Context, m *Migration) error { _, err := m.Plan(ctx); return err }, 1, 5},
		"start":    {"none none", command((*Migration).Start), 0, 0},
		"cutover":  {"primary standby", command((*Migration).Cutover), 0, 0},
		"rollback": {"standby primary", command((*Migration).Rollback), 0, 0},
		"careful": {"primary standby", command(func(m *Migration, ctx context.Context) (Result, error) {
			m.opts.AllowDifferences = false
			return m.Cutover(ctx)
		}), 0, 0},
		"nothing": {"primary standby", command((*Migration).Abort), 0, 0},
		"fenced":  {"sealed filling", func(ctx context.Context, m *Migration) error { _, err := m.Verify(ctx, VerifyOptions{}); return err }, 2, 0},
		"abort":   {"sealed filling", command((*Migration).Abort), 0, 0},
		"finish": {"standby primary", command(func(m *Migration, ctx context.Context) (Result, error) {
			return m.Finish(ctx, "")
		}), 0, 0},
		"copy":   {"none none", func(ctx context.Context, m *Migration) error { _, err := m.Copy(ctx, CopyOptions{}); return err }, 4, 0},
		"verify": {"primary standby", func(ctx context.Context, m *Migration) error { _, err := m.Verify(ctx, VerifyOptions{}); return err }, 1, 0},
		"count":  {"none none", func(ctx context.Context, m *Migration) error { _, err := m.Count(ctx, ""); return err }, 0, 0},
		"status": {"primary standby", func(ctx context.Context, m *Migration) error {
			st, err := m.Status(ctx)
			if strings.Contains(st.Source.Error+st.Target.Error, "this request fails") && st.Phase == Unknown {
				err = errFault
			}
			return err
		}, 1, 0},
		"converge": {"primary standby", func(ctx context.Context, m *Migration) error {
			_, err := m.Converge(ctx, StageFinished, ConvergeOptions{})
			return err
		}, 5, 0},
		"look": {"none none", func(ctx context.Context, m *Migration) error {
			_, err := (&Fleet{sides: m.sides[:]}).Look(ctx, Wanted{})
			return err
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			spared := 0
			for store := range 2 {
				for n := 1; ; n++ {
					r := newRig(t)
					r.put(0, "k", "12345678")
					if c.states != "none none" {
						r.put(1, "k", "12345678")
					}
					r.set(c.states)
					for _, s := range r.sides {
						if err := s.WriteHeartbeat(t.Context(), Heartbeat{Instance: "gone"}); err != nil {
							t.Fatal(err)
						}
					}
					requests := r.failAt(store, n)
					if fails := r.hooks[1].onSwap; c.most > 0 {
						r.hooks[1].onSwap = func(s driver.Swap) error {
							if len(s.Value) > c.most && len(s.Guards) > 0 {
								return driver.ErrTooLarge
							}
							if fails != nil {
								return fails(s)
							}
							return nil
						}
					}
					err := c.run(t.Context(), r.migration(Options{Workers: 1}))
					if int(requests.Load()) < n {
						break
					}
					if err == nil {
						spared++
					} else if !errors.Is(err, errFault) {
						t.Errorf("request %d to store %d fails: %v", n, store, err)
					}
					if states := r.states(); strings.Contains(c.states, string(side.Primary)) && !strings.Contains(states, string(side.Primary)) {
						t.Errorf("request %d to store %d fails: the records are %s (%v)", n, store, states, err)
					}
				}
			}
			if spared != c.spared {
				t.Errorf("%d requests may fail without an error, want %d", spared, c.spared)
			}
		})
	}
}
