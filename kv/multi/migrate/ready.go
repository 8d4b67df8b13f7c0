package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Blocker is one reason not to cut over.
type Blocker struct {
	Check  string `json:"check"` // "clients", "config", "reach", "empty", "differences" or "pause"
	Client string `json:"client,omitempty"`
	Detail string `json:"detail"`

	// Allow is the option by which to go on in spite of it, as the command line
	// has it.
	Allow string `json:"allow"`
}

// String says what is wrong and how to go on in spite of it.
func (b Blocker) String() string {
	text := b.Detail
	if b.Client != "" {
		text = fmt.Sprintf("client %s: %s", b.Client, text)
	}
	return fmt.Sprintf("%s (%s goes on all the same)", text, b.Allow)
}

// checkReach is the check of a Blocker that may go away by itself.
const checkReach = "reach"

// The options of the command line that let a cutover go on in spite of
// something.
const (
	allowNoClients     = "--allow-no-clients"
	allowMisconfigured = "--allow-misconfigured"
	allowUnreachable   = "--allow-unreachable"
	allowDifferences   = "--allow-differences"
	allowEmpty         = "--allow-empty"
)

// NotReadyError is the error of a cutover or roll-back that was refused before
// it sealed anything. It matches ErrRefused.
type NotReadyError struct {
	Command  string
	Blockers []Blocker
}

// Error lists what is in the way.
func (e *NotReadyError) Error() string {
	texts := make([]string, len(e.Blockers))
	for i, b := range e.Blockers {
		texts[i] = b.String()
	}
	return fmt.Sprintf("%v: not ready for the %s, nothing was sealed: %s", ErrRefused, e.Command, strings.Join(texts, "; "))
}

// Unwrap makes it match ErrRefused.
func (e *NotReadyError) Unwrap() error { return ErrRefused }

// allowed reports whether to go on in spite of b.
func (o Options) allowed(b Blocker) bool {
	switch b.Allow {
	case allowNoClients:
		return o.AllowNoClients
	case allowMisconfigured:
		return o.AllowMisconfigured
	case allowUnreachable:
		return o.AllowUnreachable
	case allowDifferences:
		return o.AllowDifferences
	case allowEmpty:
		return o.AllowEmpty
	}
	return false
}

// allClients reports whether nothing that clients could say matters.
func (o Options) allClients() bool {
	return o.AllowNoClients && o.AllowMisconfigured && o.AllowUnreachable && o.ExpectClients == 0
}

// refuse returns the error for those of the blockers that were not allowed.
func (r *run) refuse(blockers []Blocker) error {
	blockers = slices.DeleteFunc(slices.Clone(blockers), r.opts.allowed)
	if len(blockers) == 0 {
		return nil
	}
	return &NotReadyError{Command: r.command.String(), Blockers: blockers}
}

// prepare makes sure that a cutover will succeed, as far as can be seen, and
// that little is left to do while writes wait. It moves the version of v's
// record of the store that is to be primary.
func (r *run) prepare(ctx context.Context, s step, v *view) error {
	to := fromRole(s).other()
	if !r.opts.DryRun {
		if err := r.tryRights(ctx, s, v); err != nil {
			return fmt.Errorf("what the %s will have to do was tried first: %w", r.command, err)
		}
	}
	blockers, err := r.rollCall(ctx, v, to)
	if err != nil {
		return err
	}
	if err := r.refuse(blockers); err != nil && !r.opts.DryRun {
		return err
	}
	differences, err := r.compareBefore(ctx, s, v.versions[to])
	if err != nil {
		return err
	}
	return r.refuse(append(blockers, differences...))
}

// tryRights tries what needs rights on the store that is to be primary: to write
// its record, and keys under its guard. Without it, lacking rights would show
// when writes wait.
func (r *run) tryRights(ctx context.Context, s step, v *view) error {
	to := fromRole(s).other()
	record, version, err := r.swap(ctx, to, v.versions[to], v.records[to], "asked before "+r.command.String())
	if err != nil {
		return err
	}
	v.records[to], v.versions[to] = record, version
	guards := side.Guards(version)
	key := side.ScratchPrefix + side.NewID()
	err = r.sides[to].CAS(ctx, key, guards, func([]byte, bool) ([]byte, kv.Action, error) { return []byte("probe"), kv.Put, nil })
	if err == nil {
		err = r.sides[to].Delete(ctx, key, guards)
	}
	if err != nil {
		return fmt.Errorf("a key of store %q can't be written under its record's guard: %w", r.to(s).Name(), err)
	}
	return r.tryUserKey(ctx, r.to(s), guards)
}

// tryUserKey writes the first key of a store once more, as it is: what is
// allowed of reserved keys may not be of the users'.
func (r *run) tryUserKey(ctx context.Context, s *side.Side, guards []kv.Guard) error {
	for e, err := range s.Entries(ctx, "") {
		if err == nil {
			err = s.CAS(ctx, e.Key, guards, func(in []byte, exists bool) ([]byte, kv.Action, error) {
				if !exists {
					return nil, kv.Keep, nil
				}
				return in, kv.Put, nil
			})
		}
		if err != nil {
			return fmt.Errorf("the key %q can't be written in store %q: %w", e.Key, s.Name(), err)
		}
		break
	}
	return nil
}

const (
	// rollCallPatience is how long clients have to answer. Those that reach both
	// stores do within a second; the first attempt of one whose store pauses may
	// take three, and the next one a second more.
	rollCallPatience = 8 * time.Second
	rollCallEvery    = 100 * time.Millisecond
)

// rollCall waits until the clients have seen that the target's record moved,
// which tells that they live, read that very record, and write to both
// stores. In a dry run it goes by what they told last.
func (r *run) rollCall(ctx context.Context, v *view, to role) ([]Blocker, error) {
	deadline := time.Now().Add(rollCallPatience)
	beats := map[string]uint64{}
	for {
		clients, err := r.clients(ctx)
		if err != nil {
			return nil, err
		}
		var answered, silent []ClientStatus
		waiting := false
		for _, c := range clients {
			first, known := beats[c.Instance]
			if !known {
				beats[c.Instance], first = c.Beat, c.Beat
			}
			sight, _ := c.Sight(r.sides[to].Name())
			switch {
			case r.opts.DryRun && !c.Late, !r.opts.DryRun && sight.Version == uint64(v.versions[to]):
				answered = append(answered, c)
				b := r.trouble(c, v)
				waiting = waiting || b != nil && b.Check == checkReach // its word may be on its way to the other store
			case c.Beat != first: // it lives, and doesn't see the record
				answered = append(answered, c)
				waiting = true
			default:
				silent = append(silent, c)
				waiting = waiting || !c.Gone
			}
		}
		if waiting && !r.opts.DryRun && !r.opts.allClients() && time.Now().Before(deadline) {
			if err := wait.For(ctx, rollCallEvery); err != nil {
				return nil, err
			}
			continue
		}
		return r.judge(answered, silent, v, to), nil
	}
}

// judge says what is wrong with the clients that answered.
func (r *run) judge(answered, silent []ClientStatus, v *view, to role) []Blocker {
	r.result.Clients, r.result.Silent = len(answered), nil
	for _, c := range silent {
		if !c.Gone {
			r.result.Silent = append(r.result.Silent, c.String())
		}
	}
	var blockers []Blocker
	switch n := len(answered); {
	case n < r.opts.ExpectClients:
		blockers = append(blockers, Blocker{
			Check: "clients", Allow: "a lower --expect-clients",
			Detail: fmt.Sprintf("%d clients answered, %d were expected%s", n, r.opts.ExpectClients, andSilent(r.result.Silent)),
		})
	case n == 0:
		blockers = append(blockers, Blocker{
			Check: "clients", Allow: allowNoClients,
			Detail: "no client answered: none runs coordinated with these two stores" + andSilent(r.result.Silent),
		})
	}
	for _, c := range answered {
		if b := r.trouble(c, v); b != nil {
			blockers = append(blockers, *b)
		}
	}
	return blockers
}

func andSilent(silent []string) string {
	if len(silent) == 0 {
		return ""
	}
	return "; crashed or cut off within the last minute: " + strings.Join(silent, ", ")
}

// trouble says why a client is not ready for a cutover; nil: it is.
func (m *Migration) trouble(c ClientStatus, v *view) *Blocker {
	because := func(check, allow, format string, args ...any) *Blocker {
		return &Blocker{Check: check, Client: c.String(), Allow: allow, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case c.Mode == side.ModeWanted:
		return because("config", allowMisconfigured, "it is not coordinated: it goes by a file (multi.wanted_file)")
	case len(c.Sees) == 0:
		return because("config", allowMisconfigured, "it doesn't tell what it sees: it runs another release")
	}
	for r, s := range m.sides {
		sight, known := c.Sight(s.Name())
		switch {
		case !known:
			return because("config", allowMisconfigured, "it is configured for other stores, not for %q", s.Name())
		case sight.Error != "":
			return because(checkReach, allowUnreachable, "it can't read the record of store %q: %s", s.Name(), sight.Error)
		case sight.Migration == "":
			return because("config", allowMisconfigured, "it finds no record in store %q: it looks at another store, or below another prefix", s.Name())
		case sight.Migration != v.records[r].Migration:
			return because("config", allowMisconfigured, "it finds the record of another migration in store %q: it looks at another store, or below another prefix", s.Name())
		case !slices.Contains(c.Stores, s.Name()):
			return because(checkReach, allowUnreachable, "it can't write to store %q: what it tells of itself is missing there", s.Name())
		}
	}
	switch {
	case c.MirrorError != "":
		return because(checkReach, allowUnreachable, "it can't mirror: %s", c.MirrorError)
	case m.opts.MaxPause > c.FenceTimeout:
		return because("config", allowMisconfigured, "its fence_timeout, %v, is shorter than the longest pause, %v: its calls would fail before the cutover is undone", c.FenceTimeout, m.opts.MaxPause)
	}
	return nil
}

// compareBefore compares the stores while clients go on writing, and copies what
// differs if that was allowed. Writes will wait for the same scans, without the
// work of clients beside: what that costs can't be told before it stops, so the
// prediction counts it. A pause that was predicted too short would be undone,
// tried again, and keep writes waiting each time.
func (r *run) compareBefore(ctx context.Context, s step, version kv.Version) ([]Blocker, error) {
	began := time.Now()
	found := &DifferencesError{Primary: r.from(s).Name(), Standby: r.to(s).Name()}
	var err error
	if r.opts.AllowDifferences && !r.opts.DryRun {
		err = r.copyBefore(ctx, s, side.Guards(version))
	} else {
		err = r.findDifferences(ctx, s, found)
	}
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	r.result.Predicted = took
	var blockers []Blocker
	if r.result.Before.Keys == 0 {
		blockers = append(blockers, Blocker{
			Check: "empty", Allow: allowEmpty,
			Detail: fmt.Sprintf("store %q holds no keys: is this the store, and the prefix?", r.from(s).Name()),
		})
	}
	if found.Count > 0 {
		atLeast := ""
		if found.Count == maxReported {
			atLeast = "at least "
		}
		blockers = append(blockers, Blocker{Check: "differences", Allow: allowDifferences, Detail: fmt.Sprintf(
			atLeast+`%d keys differ, %q (%s) among them: run "polykv copy" and "polykv verify", or all of them are made as they are in store %q`,
			found.Count, found.Differences[0].Key, found.Differences[0].Reason, r.from(s).Name())})
	}
	if r.pause.limit > 0 && took > r.pause.limit && r.result.Before.Copied == 0 && found.Count == 0 {
		blockers = append(blockers, Blocker{Check: "pause", Allow: "a longer --max-pause", Detail: fmt.Sprintf(
			"to compare the stores took %v beside the clients' work, and writes may wait for as long, which is more than %v", took.Round(time.Millisecond), r.pause.limit)})
	}
	return blockers, nil
}

// errEnough ends a comparison whose answer is known.
var errEnough = errors.New("enough keys differ")

// findDifferences compares the stores as finish does, until many keys differ
// that must not: each costs several readings.
func (r *run) findDifferences(ctx context.Context, s step, found *DifferencesError) error {
	totals, err := side.Compare(ctx, r.from(s), r.to(s), side.CompareOptions{
		Equal: r.opts.Equal, Progress: r.progress(Comparing), Found: func(d Difference) error {
			if d.Reason == side.Extra && len(r.result.Deletes) < maxReported && r.opts.DryRun {
				r.result.Deletes = append(r.result.Deletes, d.Key)
			}
			err := found.add(d)
			if found.Count == maxReported && !r.opts.AllowDifferences {
				err = errEnough
			}
			return err
		},
	})
	r.result.Before = &totals
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

// copyBefore copies what differs while clients go on writing and mirroring.
func (r *run) copyBefore(ctx context.Context, s step, guards []kv.Guard) error {
	sum := Totals{}
	r.result.Before = &sum
	for range maxPrepare {
		t, err := r.copyAll(ctx, s, guards, Copying)
		add(&sum, t)
		if err != nil || t.Different <= fewKeys {
			return err
		}
	}
	return nil
}

var errNoHeartbeats = errors.New("the clients can't be listed")

// clients are those that were seen in either store.
func (m *Migration) clients(ctx context.Context) ([]ClientStatus, error) {
	return m.tracker.clients(ctx, m.sides[:])
}

func (t *tracker) clients(ctx context.Context, sides []*side.Side) ([]ClientStatus, error) {
	byInstance := map[string]*ClientStatus{}
	for _, s := range sides {
		if err := heartbeats(ctx, s, byInstance); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoHeartbeats, err)
		}
	}
	return t.sorted(byInstance), nil
}
