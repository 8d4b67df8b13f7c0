package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Backend is one of the two stores of a migration.
type Backend struct {
	// Name tells the store in records, messages and configurations. It is part
	// of the protocol: everybody must give a store the same name.
	Name string

	// Client leads to the store. Whatever its codec is, a migration moves the
	// stored bytes. The Migration uses the client and doesn't close it.
	Client kv.Client

	// Codec is the codec of Client; it is only needed for a client without raw
	// operations (kv.Raw), which can be copied and verified, no more.
	Codec codec.Codec

	// Skipped counts the keys that break rule K1, if it is also the Observer of
	// Client. Nil: such keys are not reported.
	Skipped *Skipped
}

// The parts of the protocol that commands report.
type (
	// State says what a store may be used for.
	State = side.State
	// Record is what a store says of itself.
	Record = side.Record
	// Difference is one key that two stores don't agree on.
	Difference = side.Difference
	// Totals are what a comparison or a copy has done.
	Totals = side.Totals
	// Heartbeat is what a client tells about itself.
	Heartbeat = side.Heartbeat
	// FailedError is the error of a copy that had to leave keys out.
	FailedError = side.FailedError
	// Failure is a key that could not be copied.
	Failure = side.Failure
)

// ErrBadRecord is matched by errors about a record that can't be understood or
// that belongs to another store.
var ErrBadRecord = side.ErrBadRecord

// Options tune a Migration. The zero value is ready to use.
type Options struct {
	// DryRun makes every command tell what it would do first, and do nothing.
	DryRun bool

	// AllowKeys lets Start go on though the target holds keys. Those that the
	// source doesn't have will be deleted by the cutover at the latest.
	AllowKeys bool

	// AllowDifferences lets Cutover, Rollback and Finish go on though the
	// stores differ.
	AllowDifferences bool

	// AllowEmpty lets Cutover and Rollback go on though the store to be left
	// holds no keys.
	AllowEmpty bool

	// AllowNoClients lets Cutover and Rollback go on though no client answers.
	AllowNoClients bool

	// AllowMisconfigured lets them go on though a client is configured in
	// a way that the cutover stops it: it looks at other stores, below other
	// prefixes, or waits for less long than MaxPause.
	AllowMisconfigured bool

	// AllowUnreachable lets them go on though a client can't read or write
	// one of the stores.
	AllowUnreachable bool

	// ExpectClients is how many clients must answer before a cutover seals. 0:
	// at least one, unless AllowNoClients is set.
	ExpectClients int

	// MaxPause is how long a cutover keeps writes waiting at most; then it is
	// undone. 0: DefaultMaxPause; negative: without a limit.
	MaxPause time.Duration

	// User and Host say who runs the commands, for the records. Default: the
	// user and the name of this machine, as far as they can be told.
	User, Host string

	// Workers is how many keys are copied at the same time. Default 64.
	Workers int

	// Equal reports whether two values that differ in bytes are as good as
	// equal, for stores whose values merge. Default: they are not.
	Equal func(a, b []byte) bool

	// Changed is called after each change of a record, or with each that would
	// be made.
	Changed func(Change)

	// Progress is called now and then while keys are copied or compared, one
	// call at a time.
	Progress func(Progress)
}

// Change is one change of a store's record.
type Change struct {
	Store string `json:"store"`
	From  State  `json:"from"` // "": there was no record
	To    State  `json:"to"`
	Epoch uint64 `json:"epoch"` // that the record has now
}

// Work says what keys are gone through for.
type Work string

// The kinds of Work.
const (
	Copying    Work = "copying"    // by Copy, or before a cutover seals
	Comparing  Work = "comparing"  // by Verify, Plan or Finish
	Completing Work = "completing" // by a cutover, while writes wait
)

// Progress tells how far some work is.
type Progress struct {
	Work   Work
	Totals Totals
}

// Migration is the source and the target of a migration, and the commands on
// them. It holds no state besides: any number of them, in any processes, may be
// used at the same time, and each is safe for concurrent use.
type Migration struct {
	sides   [2]*side.Side // by role
	skipped [2]*Skipped
	opts    Options
	author  side.Author
	tracker tracker
}

// New returns the migration from source to target. It contacts nobody.
func New(source, target Backend, opts Options) (*Migration, error) {
	if source.Name == target.Name {
		return nil, fmt.Errorf("both stores of the migration are named %q; their names must differ", source.Name)
	}
	if opts.MaxPause == 0 {
		opts.MaxPause = DefaultMaxPause
	}
	m := &Migration{opts: opts, author: author(opts), skipped: [2]*Skipped{source.Skipped, target.Skipped}}
	var errs [2]error
	m.sides[0], errs[0] = side.New(source.Name, source.Client, source.Codec)
	m.sides[1], errs[1] = side.New(target.Name, target.Client, target.Codec)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return m, nil
}

// author is who runs the commands.
func author(o Options) side.Author {
	a := side.Author{User: o.User, Host: cmp.Or(o.Host, side.Hostname())}
	if a.User == "" {
		if u, err := user.Current(); err == nil {
			a.User = u.Username
		}
	}
	return a
}

func (m *Migration) names() [2]string {
	return [2]string{m.sides[source].Name(), m.sides[target].Name()}
}

func (m *Migration) progress(work Work) func(Totals) {
	if m.opts.Progress == nil {
		return nil
	}
	return func(t Totals) { m.opts.Progress(Progress{work, t}) }
}
