//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// unsent is an error of a statement of which nothing was sent.
type unsent struct{ error }

func (unsent) SafeToRetry() bool { return true }

// What the end of a statement proves, and what the engine can match of it.
func TestWhatErrorsProve(t *testing.T) {
	of := func(severity, code string) error {
		return fmt.Errorf("swap: %w", &pgconn.PgError{SeverityUnlocalized: severity, Code: code})
	}
	over, end := context.WithCancel(t.Context())
	end()
	open, closeIt := context.WithCancel(t.Context())
	s := &store{open: open}
	for _, test := range []struct {
		err     error
		outcome driver.Outcome
		is      error // nil: no sentinel
		login   bool
	}{
		{of("ERROR", insufficientPrivilege), driver.NotApplied, driver.ErrPermission, false},
		{of("FATAL", "28P01"), driver.Unknown, driver.ErrPermission, true},
		{of("ERROR", diskFull), driver.NotApplied, driver.ErrFull, false},
		{of("ERROR", programLimit), driver.NotApplied, driver.ErrFull, false},
		{of("ERROR", "40001"), driver.NotApplied, nil, false},
		{of("FATAL", "57P01"), driver.Unknown, nil, false},
		{of("PANIC", diskFull), driver.Unknown, driver.ErrFull, false},
		{unsent{io.EOF}, driver.NotApplied, nil, false},
		{io.EOF, driver.Unknown, nil, false},
	} {
		if got := outcome(test.err); got != test.outcome || isLogin(test.err) != test.login {
			t.Errorf("%v: %v, login: %v; want %v", test.err, got, !test.login, test.outcome)
		}
		err := s.wrap(t.Context(), test.err)
		if !errors.Is(err, test.err) || test.is != nil && !errors.Is(err, test.is) || driver.IsPermanent(err) != (test.is != nil) {
			t.Errorf("%v became %v; want %v", test.err, err, test.is)
		}
		if err := s.wrap(over, test.err); !errors.Is(err, context.Canceled) {
			t.Errorf("%v under a ctx that is over became %v", test.err, err)
		}
	}
	closeIt()
	if err := s.wrap(over, io.EOF); err != driver.ErrClosed { //nolint:errorlint // the very error
		t.Errorf("of a closed store: %v", err)
	}
	if err := s.wrap(over, nil); err != nil {
		t.Errorf("nothing became %v", err)
	}
}

func TestPositionCovers(t *testing.T) {
	o := origin{cluster: 1, started: 2, table: "t"}
	p := &position{origin: o, gen: 3, now: 5}
	for other, want := range map[position]bool{
		{o, 3, 5, 0}: true, {o, 3, 4, 0}: true, {o, 3, 6, 0}: false, {o, 2, 5, 0}: false, {origin{1, 3, "t"}, 3, 5, 0}: false,
	} {
		if p.Covers(&other) != want {
			t.Errorf("%+v covers %+v: %v", p, other, !want)
		}
	}
	if p.Covers(nil) {
		t.Error("it covers nothing")
	}
}

func TestNames(t *testing.T) {
	for table, want := range map[string]string{
		"a":   `"a" "a_leases" "a_swap" "a_expire" 10000`,
		"s.a": `"s"."a" "s"."a_leases" "s"."a_swap" "s"."a_expire" 10000`,
	} {
		n := namesOf(table)
		if got := n.Replace("{t} {l} {f} {e} {k}"); got != want {
			t.Errorf("%s: %s, want %s", table, got, want)
		}
	}
}

func TestLeaseOf(t *testing.T) {
	for id, want := range map[driver.LeaseID]int64{"": 0, "7": 7, "7f": -1} {
		if got := leaseOf(id); got != want {
			t.Errorf("%q: %d, want %d", id, got, want)
		}
	}
}

// Every field has a flag that sets it.
func TestFlags(t *testing.T) {
	c, fs := NewConfig(), pflag.NewFlagSet("", pflag.ContinueOnError)
	c.RegisterFlags(fs, "p.")
	err := fs.Parse([]string{
		"--p.servers=a:1", "--p.database=d", "--p.table=t", "--p.create=false", "--p.username=u", "--p.password=p", "--p.password-file=f",
		"--p.tls.enabled", "--p.dial-timeout=3s", "--p.max-conns=4", "--p.max-value-size=5",
	})
	want := Config{
		Servers: []string{"a:1"}, Database: "d", Table: "t", Username: "u", Password: config.NewSecret("p"), PasswordFile: "f",
		TLS: config.TLS{Enabled: true}, DialTimeout: 3 * time.Second, MaxConns: 4, MaxValueSize: 5,
	}
	if err != nil || !reflect.DeepEqual(*c, want) || c.Password.Reveal() != "p" {
		t.Errorf("%+v, %v; want %+v", c, err, want)
	}
}

func TestBoundsOfConfig(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		valid  bool
	}{
		"least":       {func(c *Config) { c.MaxConns, c.MaxValueSize = 1, 1 }, true},
		"most":        {func(c *Config) { c.MaxConns, c.MaxValueSize = 10_000, largestValue }, true},
		"connections": {func(c *Config) { c.MaxConns = 10_001 }, false},
		"value":       {func(c *Config) { c.MaxValueSize = 0 }, false},
		"schema":      {func(c *Config) { c.Table = "_s.t_9" }, true},
		"two schemas": {func(c *Config) { c.Table = "a.b.c" }, false},
		"capital":     {func(c *Config) { c.Table = "T" }, false},
	} {
		c := *NewConfig()
		if test.change(&c); (c.Validate() == nil) != test.valid {
			t.Errorf("%s: %v", name, c.Validate())
		}
	}
	c := NewConfig()
	if !c.Create || open(t, *c).tls != nil {
		t.Error("the defaults make no table, or use TLS")
	}
	if c.TLS.Enabled = true; open(t, *c).tls == nil {
		t.Error("TLS is enabled and not used")
	}
}
