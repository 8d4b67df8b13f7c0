package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// DefaultMaxPause is how long writes wait for a cutover at most.
const DefaultMaxPause = 10 * time.Second

// ErrPause says that writes had waited for Options.MaxPause, so that the
// cutover or roll-back was given up.
var ErrPause = errors.New("writes had waited for the longest pause that is allowed")

// pause ends a run when writes have waited for too long.
type pause struct {
	limit  time.Duration // 0: none
	cancel context.CancelCauseFunc
	timer  *time.Timer // not nil: writes wait
}

// begin is called when writes wait.
func (p *pause) begin() {
	if p.timer == nil && p.limit > 0 {
		p.timer = time.AfterFunc(p.limit, func() { p.cancel(fmt.Errorf("%w, %v", ErrPause, p.limit)) })
	}
}

// end is called when they don't wait any more.
func (p *pause) end() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// UndoneError is the error of a command that failed and left no write waiting:
// either nothing was sealed, or it was unsealed.
type UndoneError struct {
	Command string
	Sealed  bool  // it had sealed a store, and unsealed it
	Cause   error // why it failed
	Left    error // what could not be tidied up; nil: nothing
}

// Error says that clients go on, and why the command failed.
func (e *UndoneError) Error() string {
	text := fmt.Sprintf("the %s failed before it sealed anything, clients go on as before: %v", e.Command, e.Cause)
	if e.Sealed {
		text = fmt.Sprintf("the %s failed and was undone, clients go on as before: %v", e.Command, e.Cause)
	}
	if e.Left != nil {
		text += fmt.Sprintf(`; nothing is mirrored until "polykv migrate abort" has made the other store the standby again: %v`, e.Left)
	}
	return text
}

// Unwrap returns the cause.
func (e *UndoneError) Unwrap() error { return e.Cause }

// WaitingError is the error of a command that failed after it had sealed a
// store, and could not undo that: writes may be waiting.
type WaitingError struct {
	Command string
	Cause   error // why the command failed
	Undo    error // why that could not be undone
}

// Error says what to run.
func (e *WaitingError) Error() string {
	return fmt.Sprintf(`the %s failed: %v; it could not be undone either, so writes may be waiting: run it again or abort it `+
		`("polykv migrate status" shows more): %v`, e.Command, e.Cause, e.Undo)
}

// Unwrap returns both reasons.
func (e *WaitingError) Unwrap() []error { return []error{e.Cause, e.Undo} }

const (
	// undoTimeout bounds how long a cutover that failed tries to unseal.
	undoTimeout = 30 * time.Second

	// tidyTimeout bounds how long it tries, after clients write again, to make
	// the other store the standby again.
	tidyTimeout = 5 * time.Second
)

// run runs a command to its end.
func (m *Migration) run(ctx context.Context, c command) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := m.newRun(c)
	if c == cutover || c == rollback {
		r.pause = pause{limit: m.opts.MaxPause, cancel: cancel}
	}
	err := r.do(ctx)
	r.pause.end()
	switch {
	case err == nil:
	case c == cutover || c == rollback:
		err = r.failed(ctx, interrupted(ctx, err))
	default:
		err = r.lost(ctx, err)
	}
	return r.result, err
}

// interrupted adds to an error of ctx why that was cancelled.
func interrupted(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(err, context.Canceled) && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// lost says of a run that sealed nothing, and may have lost a store, what that
// means for clients.
func (r *run) lost(ctx context.Context, err error) error {
	switch phase := r.result.Phase; {
	case !side.IsAny(err, kv.ErrUnavailable, context.DeadlineExceeded, context.Canceled):
		return err
	case phase == "":
		return r.Unreached(ctx, r.command.String(), err)
	case writable(phase):
		return &UndoneError{Command: r.command.String(), Cause: interrupted(ctx, err)}
	}
	return err
}

// writable reports whether a store is primary in a phase and none is sealed.
func writable(p Phase) bool {
	return p == Mirroring || p == Reversed || p == Detached || p == DetachedBack
}

// Unreached is the error of a command that changed nothing, since a store did not
// answer before both records were read; cause says so. It is an [*UndoneError] if a
// record can be read by which clients write to its store, else cause: the other one
// may be sealed. It takes five seconds for each store at most, whatever ends ctx.
func (m *Migration) Unreached(ctx context.Context, command string, cause error) error {
	cause = interrupted(ctx, cause)
	var errs [2]error
	v := m.readBoth(context.WithoutCancel(ctx), &errs)
	if v.state(source) == side.Primary || v.state(target) == side.Primary {
		cause = &UndoneError{Command: command, Cause: cause}
	}
	return cause
}

// failed says what the failure of a cutover means for clients, and undoes what
// has to be undone.
func (r *run) failed(ctx context.Context, err error) error {
	sealed := !r.sealedBy.IsZero() && r.result.Pause == 0
	switch {
	case errors.Is(err, ErrAborted), errors.Is(err, ErrRefused) && !sealed:
		return err
	case sealed, r.sealing && r.result.Pause == 0 && !overtaken(err):
		return r.undo(ctx, err)
	case writable(r.result.Phase):
		return &UndoneError{Command: r.command.String(), Cause: err}
	}
	return r.lost(ctx, err)
}

// undo lets clients write again after a cutover failed when writes may wait. It
// asks the sealed store first and alone: the other one may be what is lost.
func (r *run) undo(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	back := &run{Migration: r.Migration, command: abort}
	unsealed, unsealErr := back.unsealSoon(ctx, r.command.first())
	if unsealed {
		ctx, cancel = context.WithTimeout(ctx, tidyTimeout)
		defer cancel()
	}
	err := back.do(ctx)
	r.result.Changes = append(r.result.Changes, back.result.Changes...)
	r.result.Phase = cmp.Or(back.result.Phase, r.result.Phase)
	switch {
	case err == nil:
		return &UndoneError{Command: r.command.String(), Sealed: true, Cause: cause}
	case unsealed:
		r.result.Phase = detached[r.command.first()]
		return &UndoneError{Command: r.command.String(), Sealed: true, Cause: cause, Left: err}
	case errors.Is(err, ErrRefused) && (r.result.Phase == Flipped || r.result.Phase == FlippedBack):
		return fmt.Errorf("the %s has made its store primary, but was interrupted then; run it again: %w", r.command, cause)
	}
	return &WaitingError{Command: r.command.String(), Cause: cause, Undo: errors.Join(unsealErr, err)}
}

// unsealSoon is unseal that waits for the store to answer, until ctx ends.
func (r *run) unsealSoon(ctx context.Context, who role) (unsealed bool, err error) {
	pause := wait.NewBackoff(5*time.Millisecond, time.Second)
	for {
		unsealed, err = r.unseal(ctx, who)
		if !overtaken(err) && !side.IsAny(err, kv.ErrUnavailable, context.DeadlineExceeded) {
			return unsealed, err
		}
		if !pause.Sleep(ctx, ctx, nil) {
			return false, err
		}
	}
}

// unseal makes a sealed store primary again without knowing anything of the
// other one, if that is safe: see mayUnseal. It reports whether the store is
// primary now. One that was found primary has its record written once more, so
// that no seal of before that is still under way can land.
func (r *run) unseal(ctx context.Context, who role) (unsealed bool, err error) {
	record, version, err := r.sides[who].ReadRecord(ctx)
	if record.State != side.Primary && !mayUnseal(record) { // it is empty if it can't be read
		return false, err
	}
	before := record.State
	record.State = side.Primary
	if record, _, err = r.swap(ctx, who, version, record, r.command.String()); err != nil {
		return false, err
	}
	if before == side.Sealed {
		r.tell(Change{Store: r.sides[who].Name(), From: before, To: side.Primary, Epoch: record.Epoch})
	}
	return true, nil
}

// detached is where a migration stands after a store was unsealed alone.
var detached = [2]Phase{source: Detached, target: DetachedBack}

// abortAlone is an abort that can't reach one of the stores: it unseals the
// other one, if that is safe. lost is why.
func (r *run) abortAlone(ctx context.Context, lost error) error {
	for who, phase := range detached {
		who := role(who)
		record, _, _ := r.readSoon(ctx, who) // empty if it can't be read
		switch {
		case record.State == side.Primary: // the other one may be anything
			r.result.Phase, r.result.Left = Unknown, lost.Error()
			r.result.Now, r.result.Next = describeLost(r.sides[who.other()].Name(), r.sides[who].Name(), &record)
			return nil
		case mayUnseal(record):
			if _, err := r.unsealSoon(ctx, who); err != nil {
				return err
			}
			r.result.Phase, r.result.Left = phase, lost.Error()
			return nil
		case record.State == side.Sealed:
			return fmt.Errorf("store %q can't be unsealed: the cutover was about to make store %q primary, which may have happened, and that store doesn't answer; "+
				`run this again when it does, or, if it is lost for good, see "polykv migrate force --help": %w`,
				r.sides[who].Name(), r.sides[who.other()].Name(), lost)
		}
	}
	return lost
}
