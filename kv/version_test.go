package kv_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// Some stores don't tell the version of what they wrote.
func TestSwapVersionWithoutAVersionInTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		overwrite, unreadable, unresolved bool
		verdict                           driver.Outcome
		want                              error
		says                              string
	}{
		"still there":     {verdict: driver.Applied},
		"written again":   {overwrite: true, want: kv.ErrIndeterminate, says: "written again"},
		"no one can tell": {want: kv.ErrIndeterminate, says: "written again"},
		"no resolver":     {unresolved: true, want: kv.ErrIndeterminate, says: "can't tell whose"},
		"unreadable":      {unreadable: true, verdict: driver.Applied, want: kv.ErrIndeterminate, says: errStop.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, patient)
			r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
				res, err := do()
				if c.overwrite {
					r.put(r.other, "k", "theirs")
				}
				return driver.Result{Outcome: res.Outcome}, err
			}
			r.store.onGet = func(context.Context, driver.GetRequest) error {
				if c.unreadable {
					return driver.Permanent(errStop)
				}
				return nil
			}
			store := driver.Store(&resolving{r.store, func(driver.Swap, driver.Entry) driver.Outcome { return c.verdict }})
			if c.unresolved {
				store = r.store
			}
			versioned, err := kv.Versioned(kv.New(store, stringCodec, &patient))
			if err != nil {
				t.Fatal(err)
			}
			version, err := versioned.SwapVersion(t.Context(), "k", 0, "mine")
			if !errors.Is(err, c.want) || (version != 0) != (c.want == nil) {
				t.Errorf("SwapVersion = %d, %v; want %v", version, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("SwapVersion = %v, want it to say %q", err, c.says)
			}
		})
	}
}
