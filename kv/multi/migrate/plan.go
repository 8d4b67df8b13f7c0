package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Plan is what Migration.Plan found.
type Plan struct {
	// Ready says that nothing stands in the way of a migration: every check is
	// good and no key has a problem.
	Ready  bool    `json:"ready"`
	Phase  Phase   `json:"phase"`
	Checks []Check `json:"checks"`

	Source StorePlan `json:"source"`
	Target StorePlan `json:"target"`

	// Problems are keys of the source that can't be moved or, once they are
	// guarded, can't be written any more: the first hundred of ProblemCount.
	Problems     []KeyProblem `json:"problems"`
	ProblemCount int          `json:"problem_count"`
}

// Check is one thing that a migration needs.
type Check struct {
	Store  string `json:"store"`
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// StorePlan is what one store holds.
type StorePlan struct {
	Name         string `json:"name"`
	Keys         int    `json:"keys"`
	Bytes        int64  `json:"bytes"`         // of keys and values
	LongestKey   int    `json:"longest_key"`   // bytes
	LargestValue int    `json:"largest_value"` // bytes
	LargestAt    string `json:"largest_at"`    // its key

	// Foreign are keys that polykv can't see or copy, since they break rule K1
	// of kv.Client: the first hundred.
	Foreign []string `json:"foreign"`
}

// KeyProblem is a key that a limit stands against.
type KeyProblem struct {
	Key     string `json:"key"`
	Problem string `json:"problem"`
}

// Plan looks at both stores and says what stands in the way of a migration. It
// reads every key of both. It writes and removes a key of its own in each, to
// learn whether it may, unless Options.DryRun is set, and changes nothing else.
func (m *Migration) Plan(ctx context.Context) (Plan, error) {
	p := Plan{Checks: []Check{}, Problems: []KeyProblem{}}
	v, err := m.readAny(ctx)
	if err != nil {
		return Plan{}, err
	}
	p.Phase = v.phase()
	if err := v.checkRoles(start, m.names()); err != nil {
		return Plan{}, err
	}
	for _, s := range m.sides {
		checks, err := m.checkStore(ctx, s)
		if err != nil {
			return Plan{}, err
		}
		p.Checks = append(p.Checks, checks...)
	}
	limits := [2]kv.Limits{m.sides[source].Limits(), m.sides[target].Limits()}
	var seen Totals
	look := func(s *side.Side, into *StorePlan, problem func(key string, size int) string) error {
		into.Name = s.Name()
		for e, err := range s.Entries(ctx, "") {
			if err != nil {
				return err
			}
			into.add(e)
			if why := problem(e.Key, len(e.Value)); why != "" {
				p.addProblem(e.Key, why)
			}
			if seen.Keys++; seen.Keys%1000 == 0 && m.opts.Progress != nil {
				m.opts.Progress(Progress{Comparing, seen})
			}
		}
		return nil
	}
	err = errors.Join(
		look(m.sides[source], &p.Source, func(key string, size int) string { return problemOf(limits, m.names(), key, size) }),
		look(m.sides[target], &p.Target, func(string, int) string { return "" }),
	)
	p.Source.foreign(m.skipped[source])
	p.Target.foreign(m.skipped[target])
	p.Checks = append(p.Checks, m.checkContent(&v, &p)...)
	if err == nil && !m.opts.DryRun && !slices.ContainsFunc(p.Checks, isNo("guards", "permissions", "sizes")) {
		var tried Check
		tried, err = m.trySizes(ctx, &p)
		p.Checks = append(p.Checks, tried)
	}
	p.Ready = err == nil && !slices.ContainsFunc(p.Checks, func(c Check) bool { return !c.OK })
	return p, err
}

func (p *Plan) addProblem(key, why string) {
	p.ProblemCount++
	if len(p.Problems) < maxReported {
		p.Problems = append(p.Problems, KeyProblem{key, why})
	}
}

func (s *StorePlan) add(e side.Entry) {
	s.Keys++
	s.Bytes += int64(len(e.Key) + len(e.Value))
	s.LongestKey = max(s.LongestKey, len(e.Key))
	if len(e.Value) > s.LargestValue || s.LargestAt == "" {
		s.LargestValue, s.LargestAt = len(e.Value), e.Key
	}
}

func (s *StorePlan) foreign(skipped *Skipped) {
	s.Foreign, _ = skipped.Keys()
	if s.Foreign == nil {
		s.Foreign = []string{}
	}
}

// problemOf says which limit stands against a key with a value of that size.
func problemOf(limits [2]kv.Limits, names [2]string, key string, size int) string {
	over := func(n, limit int) bool { return limit > 0 && n > limit }
	switch {
	case over(len(key), limits[target].Key):
		return fmt.Sprintf("the key has %d bytes, store %q takes %d", len(key), names[target], limits[target].Key)
	case over(size, limits[target].Value):
		return fmt.Sprintf("the value has %d bytes, store %q takes %d", size, names[target], limits[target].Value)
	case over(size, limits[target].GuardedValue):
		return fmt.Sprintf("the value has %d bytes, store %q takes %d in a guarded write, which those of a migration are", size, names[target], limits[target].GuardedValue)
	case over(size, limits[source].GuardedValue):
		return fmt.Sprintf("the value has %d bytes, store %q takes %d in a guarded write, so coordinated clients could not write it again", size, names[source], limits[source].GuardedValue)
	}
	return ""
}

// checkStore finds out what a store can do and lets us do.
func (m *Migration) checkStore(ctx context.Context, s *side.Side) ([]Check, error) {
	reach := Check{Store: s.Name(), Name: "reachable", OK: true, Detail: "it answers"}
	if err := s.Ping(ctx); err != nil {
		return nil, err
	}
	guards := Check{Store: s.Name(), Name: "guards", OK: true, Detail: "it can make a write depend on the record"}
	has, err := s.HasGuards(ctx)
	switch {
	case err != nil:
		return nil, err
	case !has:
		guards.OK, guards.Detail = false, "it can't make a write depend on another key, so there is no coordinated migration with it; only copy, verify and the switch of a single process"
	}
	if m.opts.DryRun {
		return []Check{reach, guards}, nil
	}
	may := Check{Store: s.Name(), Name: "permissions", OK: true, Detail: "reserved keys may be written, read and removed"}
	switch err := m.tryWrite(ctx, s); {
	case errors.Is(err, kv.ErrPermission):
		may.OK, may.Detail = false, fmt.Sprintf("keys below %q can't be written and removed: %v", kv.ReservedSegment+"/", err)
	case err != nil:
		return nil, err
	}
	return []Check{reach, guards, may}, nil
}

// tryWrite reads, writes and removes a key of our own.
func (m *Migration) tryWrite(ctx context.Context, s *side.Side) error {
	key := side.ScratchPrefix + side.NewID()
	err := s.CAS(ctx, key, nil, func([]byte, bool) ([]byte, kv.Action, error) { return []byte("probe"), kv.Put, nil })
	return errors.Join(err, s.Delete(ctx, key, nil))
}

func isNo(names ...string) func(Check) bool {
	return func(c Check) bool { return !c.OK && slices.Contains(names, c.Name) }
}

// checkContent judges what the stores hold.
func (m *Migration) checkContent(v *view, p *Plan) []Check {
	limits := Check{Store: p.Source.Name, Name: "sizes", OK: p.ProblemCount == 0, Detail: fmt.Sprintf("all %d keys and values are within the limits of both stores", p.Source.Keys)}
	if !limits.OK {
		limits.Detail = fmt.Sprintf("%d keys can't be moved or written again", p.ProblemCount)
	}
	checks := []Check{limits}
	for r, s := range []*StorePlan{&p.Source, &p.Target} {
		c := Check{Store: s.Name, Name: "keys", OK: len(s.Foreign) == 0, Detail: "every key obeys polykv's rules"}
		if _, more := m.skipped[r].Keys(); !c.OK {
			c.Detail = fmt.Sprintf("%d keys break polykv's rules and are neither seen nor copied", len(s.Foreign))
			if more {
				c.Detail = "more than " + c.Detail
			}
		}
		if m.skipped[r] != nil {
			checks = append(checks, c)
		}
	}
	if v.phase() == None || v.phase() == GivenUp {
		empty := Check{Store: p.Target.Name, Name: "empty", OK: p.Target.Keys == 0 || m.opts.AllowKeys, Detail: "it holds no keys"}
		if p.Target.Keys > 0 {
			empty.Detail = fmt.Sprintf("it holds %d keys; those that store %q doesn't have will be deleted", p.Target.Keys, p.Source.Name)
		}
		checks = append(checks, empty)
	}
	now, _ := v.phase().Describe(p.Source.Name, p.Target.Name)
	ready := v.phase() == None || v.phase() == Starting || v.phase() == Mirroring || v.phase() == GivenUp
	return append(checks, Check{Store: p.Source.Name, Name: "records", OK: ready, Detail: now})
}
