package conformance

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/polykv/polykv/kv"
)

func fullCases() []testCase {
	return []testCase{
		{"C8", "full", "a write that the store has no room for is refused with ErrFull and nothing written, and works once there is room", needFull, fullStore},
	}
}

// fullStore asks for ErrFull of one write only: a cluster that found out may
// have no leader any more who could say it again. It tries again if other
// writes than its own found that out.
func fullStore(t *trial) {
	c, other := t.open(), t.open()
	t.eventually("a write is refused with kv.ErrFull", func() bool {
		t.putSurely(c, "existing", "before")
		t.deleteSurely(c, "new")
		drain := t.fillUp()
		told := map[string]any{"existing": "before", "new": nil}
		full := false
		for _, key := range []string{"existing", "new"} {
			if err := t.untilRefused(c, key, told); errors.Is(err, kv.ErrFull) {
				full = true
			} else if !errors.Is(err, kv.ErrUnavailable) && !errors.Is(err, kv.ErrIndeterminate) {
				t.Fatalf("a write into a full store ended with %s", show(err))
			}
		}
		t.disrupt("draining the store", drain)
		for key, value := range told {
			t.recovers(other, key, value)
		}
		return full
	})
	for _, key := range []string{"existing", "new"} {
		t.putSurely(c, key, tooMuch)
	}
}

// tooMuch is what a full store has no room for.
var tooMuch = strings.Repeat("v", 64<<10)

// fillUp takes the store's room away until drain, or the end of the case.
func (t *trial) fillUp() (drain func(context.Context) error) {
	t.Helper()
	t.disrupt("filling the store", func(ctx context.Context) (err error) {
		drain, err = t.store.Full(ctx)
		return err
	})
	t.Cleanup(func() { _ = drain(context.Background()) })
	return drain
}

// untilRefused writes until it is refused, and notes what key holds if it was
// told the truth.
func (t *trial) untilRefused(c kv.Client, key string, told map[string]any) (err error) {
	t.Helper()
	n := 0
	t.eventually("a write into a full store is refused", func() bool {
		n++
		value := tooMuch + strconv.Itoa(n)
		switch err = tryPut(t.ctx(), c, key, value); {
		case err == nil:
			told[key] = value
		case errors.Is(err, kv.ErrIndeterminate):
			delete(told, key)
		}
		return err != nil
	})
	return err
}
