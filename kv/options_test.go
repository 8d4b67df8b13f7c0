package kv_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestOptionsNameTheWrongField(t *testing.T) {
	for want, o := range map[string]kv.Options{
		"kv.Options.RetryTimeout is -1ns; it must not be negative":       {RetryTimeout: -1},
		"kv.Options.RememberFor is -1ns; it must not be negative":        {RememberFor: -1},
		"kv.Options.ScanPage is -3; it must not be negative":             {ScanPage: -3},
		"kv.Options.MaxAttempts is -1; it must not be negative":          {MaxAttempts: -1},
		"kv.Options.MinBackoff (2s) is longer than MaxBackoff (1s)":      {MinBackoff: 2 * time.Second, MaxBackoff: time.Second},
		"kv.Options.MaxValueSize is -1; it must not be negative":         {MaxValueSize: -1},
		"kv.Options.AttemptTimeout is -1m0s; it must not be negative":    {AttemptTimeout: -time.Minute},
		"kv.Options.ContentionTimeout is -1m0s; it must not be negative": {ContentionTimeout: -time.Minute},
		"kv.Options.RememberBytes is -1; it must not be negative":        {RememberBytes: -1},
		"kv.Options.SlowCallback is -1ns; it must not be negative":       {SlowCallback: -1},
		"kv.Options.MaxBackoff is -1ns; it must not be negative":         {MaxBackoff: -1},
	} {
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %s", err, want)
		}
	}
	for _, o := range []kv.Options{{}, kv.DefaultOptions(), {MinBackoff: time.Hour}, {RememberEntries: -1}} {
		if err := o.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// deliberate is a store that wants attempts to last.
type deliberate struct {
	*hooked
	limit time.Duration
}

func (d deliberate) AttemptTimeout() time.Duration { return d.limit }

// How long an attempt may take is the option, else the driver's word, else
// the default.
func TestAttemptTimeoutOfTheDriver(t *testing.T) {
	for _, c := range []struct{ option, driver, want time.Duration }{
		{0, 0, 3 * time.Second},
		{0, time.Hour, time.Hour},
		{time.Minute, time.Hour, time.Minute},
	} {
		r := newRig(t, kv.Options{})
		client := kv.New(deliberate{r.store, c.driver}, stringCodec, &kv.Options{AttemptTimeout: c.option})
		var left time.Duration
		r.store.onGet = func(ctx context.Context, _ driver.GetRequest) error {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return nil
		}
		if _, err := client.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		if left > c.want || left < c.want/2 {
			t.Errorf("option %v, driver %v: an attempt may take %v, want %v", c.option, c.driver, left, c.want)
		}
	}
}
