package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/polykv/polykv/kv/multi/internal/side"
)

// ErrRefused is matched by the error of a command that can't do anything in the
// state that it found. The error says what to do instead; nothing was changed.
var ErrRefused = errors.New("refused")

// String returns the command as the command line has it.
func (c command) String() string {
	return map[command]string{
		start: "start", cutover: "cutover", rollback: "rollback", abort: "abort", finishOnTarget: "finish", finishOnSource: "finish", force: "force",
	}[c]
}

// Phase says where a migration stands, in one word for programs.
type Phase string

// The phases of a migration.
const (
	None         Phase = "none"          // neither store has a record
	Starting     Phase = "starting"      // start was interrupted
	StartingBack Phase = "starting-back" // a start in the other direction was interrupted
	Mirroring    Phase = "mirroring"     // the source is primary, the target standby
	Sealed       Phase = "sealed"        // a cutover is under way: no writes
	Flipped      Phase = "flipped"       // the target is primary, the source still sealed
	Reversed     Phase = "reversed"      // the target is primary, the source standby
	Sealing      Phase = "sealing-back"  // a roll-back is under way: no writes
	FlippedBack  Phase = "flipped-back"  // the source is primary again, the target still sealed
	Finished     Phase = "finished"      // the target is primary, the source retired
	GivenUp      Phase = "given-up"      // the source is primary, the target retired
	Detached     Phase = "detached"      // the source is primary, the target half filled: a cutover was undone without it
	DetachedBack Phase = "detached-back" // the target is primary, the source half filled
	Split        Phase = "split"         // both are primary: one was forced while the other was lost
	Stranded     Phase = "stranded"      // a cutover or roll-back and a finish at once: no writes
	Unknown      Phase = "unknown"       // one of the stores can't be read
	Broken       Phase = "broken"        // no command leads to these records
)

// phases says where a migration with these states stands, source first.
var phases = map[[2]side.State]Phase{
	{absent, absent}:             None,
	{side.Primary, absent}:       Starting,
	{absent, side.Primary}:       StartingBack,
	{side.Primary, side.Standby}: Mirroring,
	{side.Sealed, side.Standby}:  Sealed,
	{side.Sealed, side.Filling}:  Sealed,
	{side.Sealed, side.Primary}:  Flipped,
	{side.Standby, side.Primary}: Reversed,
	{side.Standby, side.Sealed}:  Sealing,
	{side.Filling, side.Sealed}:  Sealing,
	{side.Primary, side.Sealed}:  FlippedBack,
	{side.Retired, side.Primary}: Finished,
	{side.Primary, side.Retired}: GivenUp,
	{side.Sealed, side.Retired}:  Stranded,
	{side.Retired, side.Sealed}:  Stranded,
	{side.Primary, side.Filling}: Detached,
	{side.Filling, side.Primary}: DetachedBack,
	{side.Primary, side.Primary}: Split,
}

// phaseOf returns where a migration with these states stands.
func phaseOf(s, t side.State) Phase { return cmp.Or(phases[[2]side.State{s, t}], Broken) }

// advice says, for each phase, where the migration stands and what comes next.
// {source} and {target} are replaced by their quoted names.
var advice = map[Phase]struct{ now, next string }{
	None:         {"there is no migration: neither store has a record", `to begin, run "polykv migrate plan" and then "polykv migrate start"`},
	Starting:     {"a start was interrupted: store {source} is primary, store {target} has no record yet", `run "polykv migrate start" again`},
	StartingBack: {"store {target} is primary, and store {source} has no record: a migration from {target} to {source} was begun, or the configuration has the two the wrong way round", `check which store is the source; to move from {target} to {source}, run "polykv migrate start" with the two exchanged`},
	Mirroring:    {"store {source} is primary and is mirrored into store {target}", `when all clients run coordinated and "polykv verify" finds no difference, run "polykv migrate cutover"`},
	Sealed:       {"a cutover is under way: store {source} is sealed, and writes wait", `run "polykv migrate cutover" to end it, or "polykv migrate abort" to undo it`},
	Flipped:      {"store {target} is primary; store {source} is still sealed", `run "polykv migrate cutover" again to let it go, which a roll-back needs`},
	Reversed:     {"store {target} is primary and is mirrored back into store {source}", `watch it; then run "polykv migrate finish" to retire store {source}, or "polykv migrate rollback" to go back`},
	Sealing:      {"a roll-back is under way: store {target} is sealed, and writes wait", `run "polykv migrate rollback" to end it, or "polykv migrate abort" to undo it`},
	FlippedBack:  {"store {source} is primary again; store {target} is still sealed", `run "polykv migrate rollback" again to let it go`},
	Finished:     {"the migration is finished: store {target} is primary, store {source} is retired", `configure the clients for store {target} alone; to move back, start a migration from it`},
	GivenUp:      {"the migration was given up: store {source} is primary, store {target} is retired", `configure the clients for store {source} alone; to try again, run "polykv migrate start"`},
	Stranded:     {"a cutover or roll-back met a finish: one store is sealed, the other retired, and writes wait", `run "polykv migrate abort", which makes the sealed store primary again`},
	Detached:     {"store {source} is primary; a cutover was undone without store {target}, and nothing is mirrored into it", `run "polykv migrate abort", which makes store {target} the standby again`},
	DetachedBack: {"store {target} is primary; a roll-back was undone without store {source}, and nothing is mirrored into it", `run "polykv migrate abort", which makes store {source} the standby again`},
	Split:        {"both stores say that they are primary: one was forced while the other one was lost; clients use the one of the higher epoch", `run "polykv migrate abort", which makes the other one its standby`},
	Broken:       {"no command leads to these records: somebody else wrote or removed one", `read the key ".polykv/record" in both stores, and see docs/migration.md`},
}

// Describe says in a sentence where a migration in phase p stands, and in
// another what comes next.
func (p Phase) Describe(sourceName, targetName string) (now, next string) {
	a, known := advice[p]
	if !known {
		a = advice[Broken]
	}
	names := strings.NewReplacer("{source}", strconv.Quote(sourceName), "{target}", strconv.Quote(targetName))
	return names.Replace(a.now), names.Replace(a.next)
}

// refusal is the error of a command that found a state in which it can't do
// anything.
func refusal(c command, p Phase, names [2]string) error {
	now, next := p.Describe(names[source], names[target])
	return fmt.Errorf("%w: %s can't go on here: %s; %s", ErrRefused, c, now, next)
}
