package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// trySizes writes as large a value as there is to the target, under a key as
// long as there is and under a guard: a server may take less than the
// configuration says. If it does, each key that it would refuse is a problem of
// the plan.
func (m *Migration) trySizes(ctx context.Context, p *Plan) (Check, error) {
	size := p.Source.LargestValue
	c := Check{Store: p.Target.Name, Name: "largest", OK: true, Detail: fmt.Sprintf("a guarded write of %d bytes, as many as the largest value has, succeeds", size)}
	err := m.tryValue(ctx, m.sides[target], p.Source.LongestKey, size)
	switch {
	case err == nil:
		return c, nil
	case !side.IsAny(err, kv.ErrTooLarge, kv.ErrPermission):
		return Check{}, err
	}
	c.OK, c.Detail = false, fmt.Sprintf("a guarded write of %d bytes, as many as the largest value has (%q), is refused: %v", size, p.Source.LargestAt, err)
	if errors.Is(err, kv.ErrTooLarge) {
		return c, m.nameRefused(ctx, p)
	}
	return c, nil
}

// tryValue writes and removes a value of that size, under the guard of another
// key of our own.
func (m *Migration) tryValue(ctx context.Context, s *side.Side, keySize, size int) error {
	guard, large := side.ScratchPrefix+side.NewID(), side.ScratchPrefix+side.NewID()
	large += strings.Repeat("x", max(0, keySize-len(large)))
	version, err := s.Create(ctx, guard, []byte("probe"))
	if err == nil {
		err = s.CAS(ctx, large, []kv.Guard{{Key: guard, Version: version}}, func([]byte, bool) ([]byte, kv.Action, error) {
			return make([]byte, size), kv.Put, nil
		})
	}
	return cmp.Or(errors.Join(s.Delete(ctx, large, nil), s.Delete(ctx, guard, nil)), err)
}

// nameRefused finds out by halving how large a value the target takes, and adds
// a problem for each key of the source whose value is larger.
func (m *Migration) nameRefused(ctx context.Context, p *Plan) error {
	taken, refused := 0, p.Source.LargestValue
	for refused-taken > 1 {
		size := taken + (refused-taken)/2
		switch err := m.tryValue(ctx, m.sides[target], p.Source.LongestKey, size); {
		case err == nil:
			taken = size
		case errors.Is(err, kv.ErrTooLarge):
			refused = size
		default:
			return err
		}
	}
	for e, err := range m.sides[source].Entries(ctx, "") {
		if err != nil {
			return err
		}
		if len(e.Value) > taken {
			p.addProblem(e.Key, fmt.Sprintf("the value has %d bytes, the server of store %q refuses more than %d", len(e.Value), p.Target.Name, taken))
		}
	}
	return nil
}
