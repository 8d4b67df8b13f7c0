package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// A full database refuses writes, but in one case only after it applied them:
// what is told about each write is what became of it.
func TestFullDatabase(t *testing.T) {
	t.Parallel()
	c := servertest.Etcd(t, testserver.Options{NoFsync: true, QuotaBytes: 8 << 20})
	s := open(t, configFor(c))
	for _, key := range []string{"existing", "removed"} {
		drivertest.Put(t, s, key, "before")
	}
	var writers sync.WaitGroup
	refusals := make([]error, 8)
	for i := range refusals { // at once, since so many may cross the line together
		writers.Go(func() { refusals[i] = fill(t, s, fmt.Sprint("filler", i)) })
	}
	writers.Wait()
	for _, err := range refusals {
		if err != nil {
			t.Error(err)
		}
	}

	client := kv.New(open(t, configFor(c)), codec.String{}, nil)
	defer func() { _ = client.Close() }()
	calls := 0
	write := func(any) (any, bool, error) { calls++; return "after", true, nil }
	for _, key := range []string{"existing", "new"} {
		calls = 0
		began := time.Now()
		err := client.CAS(t.Context(), key, write)
		if !errors.Is(err, kv.ErrFull) || !errors.Is(err, rpctypes.ErrNoSpace) || errors.Is(err, kv.ErrIndeterminate) {
			t.Errorf("CAS of the %s key: %v", key, err)
		}
		if calls > 2 || time.Since(began) > kv.DefaultOptions().RetryTimeout/2 { // the second, if what was remembered was not current
			t.Errorf("CAS of the %s key took %v and %d calls", key, time.Since(began), calls)
		}
	}
	for key, want := range map[string]any{"existing": "before", "new": nil} {
		if got, err := client.Get(t.Context(), key); err != nil || got != want {
			t.Errorf("%s is %v (%v), want %v", key, got, err, want)
		}
	}
	if err := client.Delete(t.Context(), "removed"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if err := client.CAS(t.Context(), "existing", func(any) (any, bool, error) { return kv.Remove, true, nil }); err != nil {
		t.Errorf("CAS with kv.Remove: %v", err)
	}
}

// fill writes until the database is full, and tells what was told wrongly.
func fill(t *testing.T, s *store, key string) error {
	deadline := time.Now().Add(time.Minute)
	for n := 0; time.Now().Before(deadline); n++ {
		prev := drivertest.Get(t, s, key)
		value := bytes.Repeat([]byte{byte(n)}, 64<<10)
		res, err := s.Swap(drivertest.WithTimeout(t, 10*time.Second), driver.Swap{Key: key, Prev: prev, Value: value, ID: 1})
		if err == nil {
			continue
		}
		now := drivertest.Get(t, s, key)
		applied := bytes.Equal(now.Value, value)
		if !errors.Is(err, driver.ErrFull) || !driver.IsPermanent(err) || applied != (res.Outcome == driver.Unknown) || !applied && res.Outcome != driver.NotApplied {
			return fmt.Errorf("%v, %w; applied: %v", res.Outcome, err, applied)
		}
		return nil
	}
	return errors.New("the database never filled up")
}

// That a key is absent proves nothing when the store was written to since.
func TestFullDatabaseCreation(t *testing.T) {
	s, p := openShared(t)
	drivertest.Put(t, s, p+"k", "1")
	before := s.history.Mark()
	create := driver.Swap{Key: p + "absent", Value: []byte("v"), ID: 1}
	if res := s.whenFull(t.Context(), create, before); res.Outcome != driver.NotApplied {
		t.Errorf("in a store at rest: %v", res.Outcome)
	}
	drivertest.Put(t, s, p+"k", "2")
	if res := s.whenFull(t.Context(), create, before); res.Outcome != driver.Unknown {
		t.Errorf("after another write: %v", res.Outcome)
	}
	old := drivertest.Put(t, s, p+"k", "3")
	drivertest.Put(t, s, p+"k", "4")
	if res := s.whenFull(t.Context(), driver.Swap{Key: p + "k", Prev: old, Value: []byte("mine"), ID: 1}, s.history.Mark()); res.Outcome != driver.NotApplied {
		t.Errorf("after another's write of the key: %v", res.Outcome)
	}
}
