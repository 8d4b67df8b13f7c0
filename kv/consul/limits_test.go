package consul

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	return b
}

// Values up to the limits are written, those above refused, with the longest
// keys and the characters that JSON makes longest.
func TestLimits(t *testing.T) {
	s, p := openShared(t)
	limits := s.Limits()
	if limits.Key != 512 || limits.Value != 512<<10 || limits.GuardedValue < 355<<10 {
		t.Fatalf("%+v", limits)
	}
	fence := p + strings.Repeat("&", maxKey-len(p))
	guard := driver.Guard{Key: fence, Version: drivertest.Put(t, s, fence, "").Version}
	guards := slices.Repeat([]driver.Guard{guard}, limits.Guards)
	key := p + strings.Repeat("<", maxKey-len(p))
	for _, test := range []struct {
		size   int
		guards []driver.Guard
		known  bool // the new version is known
	}{
		{limits.GuardedValue, guards, true},
		{limits.GuardedValue + 1, nil, true},
		{limits.Value, nil, false},
	} {
		value := noise(test.size)
		w := driver.Swap{Key: key, Prev: drivertest.Get(t, s, key), Value: value, Guards: test.guards, ID: 1<<64 - 1}
		if res := drivertest.Swap(t, s, w, driver.Applied); res.Known != test.known {
			t.Errorf("%d bytes: %v, want %v", test.size, res.Known, test.known)
		}
		if e := drivertest.Get(t, s, key); !bytes.Equal(e.Value, value) || s.Resolve(w, e) != driver.Applied {
			t.Errorf("%d bytes: read %d, %v", test.size, len(e.Value), e.Meta)
		}
		w.Value = nil // with what was true before
		drivertest.Swap(t, s, w, driver.Conflict)
	}
	for _, w := range []driver.Swap{
		{Key: key, Value: noise(limits.Value + 1)},
		{Key: key, Value: noise(limits.GuardedValue + 10<<10), Guards: guards},
		{Key: p + "\u00a0", Value: noise(limits.Value)}, // can't be in a path
	} {
		res, err := s.Swap(t.Context(), w)
		if res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrTooLarge) {
			t.Errorf("%d bytes: %v, %v", len(w.Value), res.Outcome, err)
		}
	}
}

// The size of a transaction is computed as Consul counts it.
func TestTransactionSize(t *testing.T) {
	s, p := openShared(t)
	w := driver.Swap{Key: p + "<\"ü\\\u2028>", ID: 1 << 60}
	w.Value = make([]byte, s.cfg.MaxValueSize*3/4)
	for s.tooLargeForTxn(w) {
		w.Value = w.Value[1:]
	}
	if len(w.Value) < 383<<10 || len(w.Value) > 384<<10 {
		t.Errorf("%d bytes fit", len(w.Value))
	}
	if res := drivertest.Swap(t, s, w, driver.Applied); !res.Known {
		t.Error("not by a transaction")
	}
	w.Value = make([]byte, len(w.Value)+3) // base64 grows by threes
	_, _, _, err := s.txn.Txn(s.cfg.swapOps(w), (&api.QueryOptions{}).WithContext(t.Context()))
	var status *statusError
	if !errors.As(err, &status) || status.code != 413 || !s.tooLargeForTxn(w) {
		t.Error(err)
	}
}

// Large creations, conflicts and lost races by "PUT ?cas=".
func TestLargeValues(t *testing.T) {
	s, p := openShared(t)
	w := driver.Swap{Key: p + "k?#%+& \"\\ü", Value: noise(500 << 10), ID: 5}
	if res := drivertest.Swap(t, s, w, driver.Applied); res.Known {
		t.Error("the version can't be known")
	}
	drivertest.Swap(t, s, w, driver.Conflict)
	e := drivertest.Get(t, s, w.Key)
	if !bytes.Equal(e.Value, w.Value) || s.Resolve(w, e) != driver.Applied {
		t.Fatalf("read %d bytes, %v", len(e.Value), e.Meta)
	}
	w.Prev, w.Value = e, noise(450<<10)
	drivertest.Swap(t, s, w, driver.Applied)
	drivertest.Swap(t, s, w, driver.Conflict)
	now := drivertest.Get(t, s, w.Key)
	drivertest.Remove(t, s, w.Key)
	w.Prev = now
	drivertest.Swap(t, s, w, driver.Conflict)
}
