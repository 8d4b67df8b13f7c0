// Package drivertest is what the tests of the drivers of servers share: steps
// that fail the test, a follower of watch sessions, cases that are alike for
// all, and the way from a real server to a harness of the conformance suite.
package drivertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// patience bounds what a test waits for: long enough for a busy machine.
const patience = time.Minute

// Unique returns the test's name with something that no other run of it has.
func Unique(t testing.TB) string { return fmt.Sprintf("%s-%x", t.Name(), rand.Uint32()) }

// WithTimeout returns a ctx that ends after d, or with the test.
func WithTimeout(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Eventually polls until check returns nil, for as long as a test's patience.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Unused returns a loopback address that refuses connections.
func Unused(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Get reads a key.
func Get(t testing.TB, s driver.Store, key string) driver.Entry {
	t.Helper()
	e, err := s.Get(WithTimeout(t, patience), driver.GetRequest{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Swap makes one swap that must have the given outcome, and an error if that
// is one of those that have a reason. Its ID is 1 if it has none.
func Swap(t testing.TB, s driver.Store, w driver.Swap, want driver.Outcome) driver.Result {
	t.Helper()
	if w.ID == 0 {
		w.ID = 1
	}
	res, err := s.Swap(WithTimeout(t, patience), w)
	if res.Outcome != want {
		t.Fatalf("swap of %q: outcome %v (%v), want %v", w.Key, res.Outcome, err, want)
	}
	if (want == driver.NotApplied || want == driver.Unknown) != (err != nil) {
		t.Fatalf("swap of %q: %v with error %v", w.Key, res.Outcome, err)
	}
	return res
}

// Put writes value over whatever the key holds, and returns the new entry.
func Put(t testing.TB, s driver.Store, key, value string) driver.Entry {
	t.Helper()
	return Swap(t, s, driver.Swap{Key: key, Prev: Get(t, s, key), Value: []byte(value)}, driver.Applied).Entry
}

// Remove removes a key that exists.
func Remove(t testing.TB, s driver.Store, key string) {
	t.Helper()
	Swap(t, s, driver.Swap{Key: key, Prev: Get(t, s, key), Remove: true}, driver.Applied)
}
