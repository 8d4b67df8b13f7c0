package kv_test

import (
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
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
