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

// fullStore writes until it was refused, both over a value and to an absent key,
// and looks afterwards whether what it was told of each write is true.
func fullStore(t *trial) {
	c, other := t.open(), t.open()
	big := strings.Repeat("v", 64<<10)
	t.put(other, "existing", "before")
	var drain func(context.Context) error
	t.disrupt("filling the store", func(ctx context.Context) (err error) {
		drain, err = t.store.Full(ctx)
		return err
	})
	t.Cleanup(func() { _ = drain(context.Background()) })
	told := map[string]any{"existing": "before"}
	for _, name := range []string{"existing", "new"} {
		n := 0
		t.eventually("a write is refused with kv.ErrFull", func() bool {
			key, value := name, big+strconv.Itoa(n)
			if n++; name == "new" {
				key += strconv.Itoa(n)
			}
			err := tryPut(t.ctx(), c, key, value)
			if errors.Is(err, kv.ErrIndeterminate) {
				delete(told, key)
				return false
			}
			if err == nil {
				told[key] = value
			} else if _, exists := told[key]; !exists {
				told[key] = nil
			}
			return errors.Is(err, kv.ErrFull)
		})
	}
	t.disrupt("draining the store", drain)
	for key, value := range told {
		t.recovers(other, key, value)
	}
	for _, key := range []string{"existing", "new"} {
		t.putSurely(c, key, big)
	}
}
