package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/polykv/polykv/internal/wait"
)

// Stage is how far a migration is wanted to be.
type Stage string

// The stages, in their order, and the end of a migration that is given up.
const (
	StageMirroring Stage = "mirroring" // the source is primary, the target its standby
	StageCopied    Stage = "copied"    // and the target holds all that the source holds
	StageMoved     Stage = "moved"     // the target is primary, the source its standby
	StageFinished  Stage = "finished"  // the target is primary, the source retired
	StageGivenUp   Stage = "given-up"  // the source is primary, the target retired
)

var stages = []Stage{StageMirroring, StageCopied, StageMoved, StageFinished, StageGivenUp}

// Validate says what is allowed.
func (s Stage) Validate() error {
	names := make([]string, len(stages))
	for i, known := range stages {
		if s == known {
			return nil
		}
		names[i] = string(known)
	}
	return fmt.Errorf("%q is not allowed; it must be one of: %s", string(s), strings.Join(names, ", "))
}

// ConvergeOptions tune Converge. The zero value waits for nothing.
type ConvergeOptions struct {
	// Wait is how long to wait until everything is ready: the clients of the
	// fleet, most of all, and what they mirror.
	Wait time.Duration

	// Waiting is told why, whenever that changes.
	Waiting func(reason error)
}

// converging is how long one call of Converge has waited.
type converging struct {
	ConvergeOptions
	deadline time.Time
	reported string // why it waits
}

func (o ConvergeOptions) begin() converging {
	return converging{ConvergeOptions: o, deadline: time.Now().Add(o.Wait)}
}

// again waits for a while since why stands in the way. It fails once it has
// waited for long enough.
func (c *converging) again(ctx context.Context, why error) error {
	if !time.Now().Before(c.deadline) {
		return why
	}
	if text := why.Error(); c.Waiting != nil && text != c.reported {
		c.reported = text
		c.Waiting(why)
	}
	if err := wait.For(ctx, convergeEvery); err != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return nil
}

const (
	convergeEvery = 2 * time.Second
	maxSteps      = 20 // from any phase to any stage it takes five
)

// ErrBehind says that keys still differ after they were copied.
var ErrBehind = errors.New("keys differ though they were just copied")

// Converge brings the migration to the wanted stage, from wherever it stands:
// forth, or back as long as there is a way. It may be killed and run again at
// will, and finds nothing to do once it is there. What the single commands
// refuse it refuses too, once it has waited for ConvergeOptions.Wait.
//
// It returns what each command did that it ran.
func (m *Migration) Converge(ctx context.Context, to Stage, o ConvergeOptions) ([]Result, error) {
	if err := to.Validate(); err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	wait := o.begin()
	var done []Result
	for steps := 0; steps < maxSteps; {
		result, more, err := m.step(ctx, to)
		if result.Command != "" && (err == nil || len(result.Changes) > 0) {
			done = append(done, result)
		}
		switch {
		case err == nil && (!more || m.opts.DryRun):
			return done, nil
		case err == nil:
			steps++
			continue
		case !mayWait(err):
			return done, err
		}
		if err := wait.again(ctx, err); err != nil {
			return done, err
		}
	}
	return done, fmt.Errorf("%w: given up after %d steps, each of which somebody else undid", ErrRefused, maxSteps)
}

// mayWait reports whether err may go away by itself.
func mayWait(err error) bool {
	var no *NotReadyError
	var undone *UndoneError
	var differ *DifferencesError
	return errors.As(err, &no) || errors.As(err, &undone) && errors.Is(err, ErrPause) || errors.As(err, &differ) || errors.Is(err, ErrBehind)
}

// step makes the next step to a stage. more is false if it is reached.
func (m *Migration) step(ctx context.Context, to Stage) (result Result, more bool, err error) {
	v, err := m.readAny(ctx)
	if err != nil {
		return Result{}, false, err
	}
	phase := v.phase()
	if err := v.check(start, m.names()); err != nil {
		return Result{}, false, err
	}
	command, reached := next(phase, to)
	switch {
	case reached:
		return Result{}, false, nil
	case command == 0:
		now, _ := phase.Describe(m.names()[source], m.names()[target])
		return Result{}, false, fmt.Errorf("%w: there is no way to the stage %q: %s", ErrRefused, to, now)
	case command == copying:
		result, err = m.copyAndVerify(ctx)
		return result, false, err
	case command == cutover && phase == Mirroring && !m.opts.DryRun:
		if _, err := m.copyAndVerify(ctx); err != nil {
			return Result{}, true, err
		}
	}
	switch command {
	case start:
		result, err = m.Start(ctx)
	case abort:
		result, err = m.Abort(ctx)
	case finishOnTarget:
		result, err = m.Finish(ctx, m.names()[target])
	case finishOnSource:
		result, err = m.Finish(ctx, m.names()[source])
	default:
		result, err = m.run(ctx, command)
	}
	return result, true, err
}

// copying stands for Copy and Verify, which are no commands on records.
const copying command = 200

// next is the command that brings a migration in a phase nearer to a stage; 0:
// there is none.
func next(p Phase, to Stage) (c command, reached bool) {
	back := to != StageMoved && to != StageFinished
	pick := func(forth, otherwise command) (command, bool) {
		if back {
			return otherwise, false
		}
		return forth, false
	}
	switch p {
	case None, Starting:
		return start, false
	case GivenUp:
		return start, to == StageGivenUp
	case Mirroring:
		switch to {
		case StageMirroring:
			return 0, true
		case StageCopied:
			return copying, false
		case StageGivenUp:
			return finishOnSource, false
		}
		return cutover, false
	case Sealed:
		return pick(cutover, abort)
	case Flipped:
		return cutover, false
	case Reversed:
		if to == StageMoved {
			return 0, true
		}
		return pick(finishOnTarget, rollback)
	case Sealing:
		return pick(abort, rollback)
	case FlippedBack:
		return rollback, false
	case Detached, DetachedBack, Split, Stranded:
		return abort, false
	case Finished:
		return 0, !back
	}
	return 0, false
}

// copyAndVerify copies what differs and makes sure that nothing does.
func (m *Migration) copyAndVerify(ctx context.Context) (Result, error) {
	copied, err := m.Copy(ctx, CopyOptions{DeleteExtra: m.opts.AllowDifferences})
	if err != nil || m.opts.DryRun {
		return Result{}, err
	}
	found := ""
	compared, err := m.Verify(ctx, VerifyOptions{Found: func(d Difference) error {
		if found == "" {
			found = fmt.Sprintf("%q (%s)", d.Key, d.Reason)
		}
		return nil
	}})
	if err == nil && compared.Different > 0 && !m.opts.AllowDifferences {
		err = fmt.Errorf("%w: %d of them, %s among them; run \"polykv verify\" for all, or allow differences", ErrBehind, compared.Different, found)
	}
	return Result{Command: "copy", Phase: Mirroring, Changes: []Change{}, Before: &copied.Totals, Compared: &compared.Totals}, err
}
