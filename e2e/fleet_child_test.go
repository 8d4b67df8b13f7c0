package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/migratetest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// fleetVariable makes a process of this test binary one of a fleet. It holds a
// fleetChild as JSON.
const fleetVariable = "POLYKV_FLEET"

// A fleetStore is one of the two stores of a migration.
type fleetStore struct {
	Name    string
	Section string // its configuration, in one line of YAML
}

// A fleetChild says what a process of a fleet is to do.
type fleetChild struct {
	Stores [2]fleetStore // source, target

	// Of a member.
	Name        string
	Seed        uint64
	Coordinated bool          // else it uses the source alone
	Options     string        // of multi, as YAML has them: "fence_timeout: 5m"
	Pace        time.Duration // see fleetPace, which is the default

	// Of the process that runs a command of the migration.
	Command string
	Die     fleetDeath

	// Of the process that is the command line: its arguments.
	Args []string
}

// A fleetDeath is the moment at which a command kills its own process.
type fleetDeath struct {
	Changes int          // after so many changes of records; 0: not then
	Work    migrate.Work // as soon as it goes through keys for this; "": not then
}

// A fleetLine is what a process of a fleet tells, one line of JSON each. Lines
// are written before what they tell of can be seen by anybody else, so that a
// killed process has told all that it may have done.
type fleetLine struct {
	What fleetWhat
	At   int64 // nanoseconds; see monotonic
	ID   int   `json:",omitempty"` // of an operation

	Kind  opKind `json:",omitempty"`
	Key   string `json:",omitempty"`
	Saw   string `json:",omitempty"`
	Wrote string `json:",omitempty"`
	Fate  fate   `json:",omitempty"`
	Err   string `json:",omitempty"`

	Result *migrate.Result `json:",omitempty"`
}

type fleetWhat string

const (
	fleetBegins  fleetWhat = "begins"  // an operation
	fleetDecides fleetWhat = "decides" // a run of its callback
	fleetEnds    fleetWhat = "ends"
	fleetTold    fleetWhat = "told"   // what a watch delivered
	fleetSynced  fleetWhat = "synced" // a watch has delivered what there was
	fleetQuiet   fleetWhat = "quiet"  // no operation is under way, and none will begin
	fleetResult  fleetWhat = "result" // of a command
)

// monotonic is a time that all processes of a machine share.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // there is no such error on a system that has the clock
	}
	return now.Nano()
}

// fleetVoice tells the parent.
type fleetVoice struct {
	mu  sync.Mutex
	out *json.Encoder
}

func newFleetVoice() *fleetVoice { return &fleetVoice{out: json.NewEncoder(os.Stdout)} }

func (v *fleetVoice) tell(l fleetLine) {
	v.mu.Lock()
	defer v.mu.Unlock()
	l.At = monotonic()
	if err := v.out.Encode(l); err != nil {
		os.Exit(1) // the parent is gone
	}
}

// runFleetChild is the whole life of a process of a fleet.
func runFleetChild(config string) (exitCode int) {
	var c fleetChild
	err := json.Unmarshal([]byte(config), &c)
	if err == nil {
		switch {
		case c.Args != nil:
			return c.program()
		case c.Command != "":
			err = c.command()
		default:
			err = c.member()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (s fleetStore) open() (kv.Client, error) { return openConfig(s.Section) }

// fleetConfig is the configuration of the coordinated members.
func fleetConfig(stores [2]fleetStore, options string) string {
	return fmt.Sprintf("backend: multi\nmulti: {coordinated: true, primary: %s, secondary: %s, %s}\n", stores[0].Section, stores[1].Section, options)
}

func openConfig(text string) (kv.Client, error) {
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader(text)); err != nil {
		return nil, err
	}
	return factory.New(context.Background(), cfg, codec.String{}, factory.Deps{Logger: quiet})
}

// migration opens both stores for a command.
func (c *fleetChild) migration(o migrate.Options) (*migrate.Migration, func(), error) {
	var sides [2]migrate.Backend
	for i, s := range c.Stores {
		client, err := s.open()
		if err != nil {
			return nil, nil, err
		}
		sides[i] = migrate.Backend{Name: s.Name, Client: client}
	}
	m, err := migrate.New(sides[0], sides[1], o)
	return m, func() { _, _ = sides[0].Client.Close(), sides[1].Client.Close() }, err
}

// command runs a command of the migration, unless it is to die on the way.
func (c *fleetChild) command() error {
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	changes := 0
	m, closeStores, err := c.migration(migrate.Options{
		AllowDifferences: c.Command != "finish", // members that were killed between a write and its mirror leave some
		Changed: func(migrate.Change) {
			if changes++; changes == c.Die.Changes {
				die()
			}
		},
		Progress: func(p migrate.Progress) {
			if p.Work == c.Die.Work {
				die()
			}
		},
	})
	if err != nil {
		return err
	}
	defer closeStores()
	ctx, cancel := context.WithTimeout(context.Background(), fleetPatience)
	defer cancel()
	var result migrate.Result
	switch c.Command {
	case "start":
		result, err = m.Start(ctx)
	case "copy":
		_, err = m.Copy(ctx, migrate.CopyOptions{DeleteExtra: true})
	case "cutover":
		result, err = migratetest.WhenReady(ctx, m.Cutover)
	case "rollback":
		result, err = migratetest.WhenReady(ctx, m.Rollback)
	case "finish":
		result, err = m.Finish(ctx, "")
	default:
		err = fmt.Errorf("no command %q", c.Command)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.Command, err)
	}
	newFleetVoice().tell(fleetLine{What: fleetResult, Result: &result})
	return nil
}

// fleetKeys are what the members of a fleet work on.
const (
	fleetCounters  = 50
	fleetRegisters = 12

	fleetCounterPrefix  = "counters/"
	fleetRegisterPrefix = "registers/"
	fleetOldPrefix      = "old/"
)

func fleetKey(prefix string, n int) string { return fmt.Sprintf("%s%05d", prefix, n) }

// fleetPace is the least pause between two operations of a goroutine, and half
// of the longest.
const fleetPace = 30 * time.Millisecond

// fleetPatience bounds one command, and how long a member waits for a store to
// lead: copying takes its time where one machine has to run everything.
const fleetPatience = 5 * time.Minute

const fleetPatient = "fence_timeout: 5m"
