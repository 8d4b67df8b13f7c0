package kv_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// thinLine carries pages of a few entries in the time of an attempt, and no
// larger ones.
type thinLine struct {
	driver.Store
	most int
}

func (l thinLine) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	if req.Limit > l.most {
		<-ctx.Done()
		return driver.Page{}, ctx.Err()
	}
	return l.Store.Scan(ctx, req)
}

// A prefix is read to its end over a line that is too slow for the pages that
// are asked for first.
func TestPagesShrinkOnASlowLine(t *testing.T) {
	const keys = 100
	data := inmemory.NewStore()
	c := kv.New(thinLine{data.Open(), 10}, stringCodec, &kv.Options{
		AttemptTimeout: 20 * time.Millisecond, RetryTimeout: time.Minute, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond,
	})
	writer := kv.New(data.Open(), stringCodec, nil)
	defer func() {
		if err := errors.Join(c.Close(), writer.Close()); err != nil {
			t.Error(err)
		}
	}()
	for i := range keys {
		if err := writer.CAS(t.Context(), fmt.Sprintf("k%03d", i), set("v")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := 0
	for e, err := range kv.Entries(ctx, c, "") {
		if err != nil || e.Key != fmt.Sprintf("k%03d", n) {
			t.Fatalf("entry %d is %q, %v", n, e.Key, err)
		}
		n++
	}
	if n != keys {
		t.Errorf("%d of %d entries", n, keys)
	}
	if list, err := c.List(ctx, ""); err != nil || len(list) != keys {
		t.Errorf("List: %d keys, %v", len(list), err)
	}
}
