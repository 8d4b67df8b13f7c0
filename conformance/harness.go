package conformance

import (
	"cmp"
	"context"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// Harness tells the suite how to get at what it tests.
type Harness struct {
	// New returns an empty store that no other case uses. It is called once
	// per case, from several goroutines at once, and may wait for a free
	// server. What it starts is stopped by t.Cleanup, after the case closed
	// its clients.
	New func(t T) Store

	// Features declares what the clients can't do.
	Features Features

	// Parallel is how many cases run at once. Default 8.
	Parallel int

	// Hooks, unless nil, are the optional functions that New is meant to offer.
	// Run fails if it offers others, so that no check is lost unnoticed.
	Hooks []Hook

	// Brief runs one case for each rule only.
	Brief bool

	// Rules, unless empty, are the ids of the only rules to check.
	Rules []string

	// Scale is how much the cases do that are about quantity, as a fraction of
	// what they do by default (1): about 5,000 writes, most of them one
	// after another. On a store that waits for a disk or a network with each
	// write, 0.2 keeps a run short; every case still checks what it says.
	Scale float64

	// Patience is how long something that must happen is waited for before
	// its case fails. Default 30 s, which a loaded machine can meet; nothing
	// waits that long unless it fails. A case that is still running after
	// four times as long fails with a dump of all goroutines.
	Patience time.Duration
}

// Store is one store, made for one case. Open is required; the other functions
// are offers that let more be checked. They are called from one goroutine at
// a time unless they say otherwise.
type Store struct {
	// Open opens one more client of the store, with its own handle, without
	// contacting a server. It may be called concurrently. The case closes the
	// client. Options are those of the case; the harness may add a Backend.
	Open func(codec.Codec, kv.Options) (kv.Client, error)

	// OpenElsewhere is Open through another node of the same cluster.
	OpenElsewhere func(codec.Codec, kv.Options) (kv.Client, error)

	// OpenLine is Open through a line of its own that the case can break.
	OpenLine func(codec.Codec, kv.Options) (kv.Client, Line, error)

	// OpenDriver opens one more handle of the driver, on the same data as the
	// clients that are made of it by kv.New. The case closes it.
	OpenDriver func() (driver.Store, error)

	// Plant writes a key as another tool would, past polykv, even one that
	// breaks rule K1. The key is the full one, [Store.Prefix] included.
	Plant func(ctx context.Context, key string, value []byte) error

	// Restart restarts the server, with its data kept, and returns when it is
	// ready. Connections break.
	Restart func(ctx context.Context) error

	// ChangeLeader makes another node the leader.
	ChangeLeader func(ctx context.Context) error

	// Compact makes the server forget the history of its keys up to now.
	Compact func(ctx context.Context) error

	// Snapshot saves what the store holds; restore sets the store back to
	// it, as an operator does with a backup. Connections may break.
	Snapshot func(ctx context.Context) (restore func(ctx context.Context) error, err error)

	// Full takes the store's room away: writes of 64 KiB are refused until
	// drain, but for the first few, perhaps, and smaller ones may be. drain may
	// be called again.
	Full func(ctx context.Context) (drain func(ctx context.Context) error, err error)

	// Leases says that the store has leases (kv.Leased).
	Leases bool

	// Prefix is what the clients put before their keys, for a wrapper that
	// does so; else empty.
	Prefix string
}

// Hook is the name of an optional function of a Store.
type Hook string

// The optional functions of Store.
const (
	HookOpenElsewhere Hook = "OpenElsewhere"
	HookOpenLine      Hook = "OpenLine"
	HookOpenDriver    Hook = "OpenDriver"
	HookPlant         Hook = "Plant"
	HookRestart       Hook = "Restart"
	HookChangeLeader  Hook = "ChangeLeader"
	HookCompact       Hook = "Compact"
	HookSnapshot      Hook = "Snapshot"
	HookLeases        Hook = "Leases"
	HookFull          Hook = "Full"
)

// hooks lists the optional functions that s has, in the order of its fields.
func (s Store) hooks() []Hook {
	var hooks []Hook
	for _, h := range []struct {
		name    Hook
		offered bool
	}{
		{HookOpenElsewhere, s.OpenElsewhere != nil},
		{HookOpenLine, s.OpenLine != nil},
		{HookOpenDriver, s.OpenDriver != nil},
		{HookPlant, s.Plant != nil},
		{HookRestart, s.Restart != nil},
		{HookChangeLeader, s.ChangeLeader != nil},
		{HookCompact, s.Compact != nil},
		{HookSnapshot, s.Snapshot != nil},
		{HookLeases, s.Leases},
		{HookFull, s.Full != nil},
	} {
		if h.offered {
			hooks = append(hooks, h.name)
		}
	}
	return hooks
}

// Line is what lies between one client and its store. Its methods may be
// called concurrently.
type Line interface {
	// Cut breaks the line: what is under way fails, and so does, at once,
	// everything that is tried until Mend.
	Cut()

	// Hang leaves whatever is under way or tried without an answer until Mend.
	Hang()

	// Mend makes the line work again.
	Mend()

	// OnWrite has every later write handed to f, which decides what becomes of
	// it: f carries it out or not, and returns whether the client gets the
	// answer. A write whose answer is withheld is one of unknown outcome. f
	// is called from one goroutine at a time. Nil ends it.
	OnWrite(f func(carryOut func()) (answer bool))

	// Attempts is the number of requests, watches included, that were sent
	// into the line so far, broken or not.
	Attempts() int
}

// Features declares how a client deviates from the contract. The zero value is
// a client that keeps all of it and offers every optional interface.
type Features struct {
	// PerNode: rules G1 and C1 hold among the clients of one node; across
	// nodes the values converge. [Store.Open] opens clients of one node,
	// [Store.OpenElsewhere] such of others.
	PerNode bool

	// HidesDeletes: WatchKey and WatchPrefix never call with nil, as
	// [kv.SkipDeletes] has it.
	HidesDeletes bool

	// FixedOptions: the client heeds no kv.Options but the Logger.
	FixedOptions bool

	// Lacks lists the optional interfaces that the client refuses with
	// ErrNotSupported. What is not listed must work. Without Entries,
	// kv.Entries still works, by List and Get, and lacks versions and moments.
	Lacks []Extra
}

// Extra is an optional interface of package kv.
type Extra string

// The optional interfaces, by the function of package kv behind which they
// are.
const (
	Watch     Extra = "Watch"
	Entries   Extra = "Entries"
	Ping      Extra = "Ping"
	Guarded   Extra = "Guarded"
	Versioned Extra = "Versioned"
	Raw       Extra = "Raw"
	Limits    Extra = "LimitsOf"
	Views     Extra = "WithCodec"
)

// Opener opens one more handle on a store.
type Opener func() (driver.Store, error)

// Driver is the harness of a driver.Store beneath [kv.New]. fresh is called
// once per case; the Opener that it returns opens handles on an empty store.
//
// The clients' lines are broken between the engine and the driver. A driver
// that can break a real connection should offer that instead, by
// [Store.OpenLine], and the other hooks of its server too: change New of the
// Harness for that.
func Driver(fresh func(t T) Opener) Harness {
	return Harness{New: func(t T) Store {
		open := fresh(t)
		return Store{
			Leases: leases(open),
			Open: func(c codec.Codec, o kv.Options) (kv.Client, error) {
				s, err := open()
				if err != nil {
					return nil, err
				}
				return kv.New(s, c, &o), nil
			},
			OpenLine: func(c codec.Codec, o kv.Options) (kv.Client, Line, error) {
				s, err := open()
				if err != nil {
					return nil, nil, err
				}
				line := Breakable(s)
				return kv.New(line, c, &o), line, nil
			},
			OpenDriver: open,
			Plant: func(ctx context.Context, key string, value []byte) error {
				return plant(ctx, open, key, value)
			},
		}
	}}
}

// leases reports whether a driver grants leases.
func leases(open Opener) bool {
	s, err := open()
	if err != nil {
		return false // the case will say so
	}
	defer s.Close()
	l, ok := s.(driver.Leaser)
	return ok && l.MinLease() > 0
}

// plant writes by a driver, whose Store takes any key.
func plant(ctx context.Context, open Opener, key string, value []byte) (err error) {
	s, err := open()
	if err != nil {
		return err
	}
	defer func() {
		if e := s.Close(); err == nil {
			err = e
		}
	}()
	prev, err := s.Get(ctx, driver.GetRequest{Key: key})
	if err != nil {
		return err
	}
	prev.Key = key
	result, err := s.Swap(ctx, driver.Swap{Prev: prev, Key: key, Value: value, ID: 1})
	if err == nil && result.Outcome != driver.Applied {
		err = kv.ErrConflict
	}
	return err
}

func (h Harness) withDefaults() Harness {
	h.Parallel = cmp.Or(h.Parallel, 8)
	h.Scale = cmp.Or(h.Scale, 1)
	h.Patience = cmp.Or(h.Patience, 30*time.Second)
	return h
}
