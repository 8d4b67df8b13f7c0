package conformance

import (
	"context"
	"errors"
	"strings"

	"github.com/polykv/polykv/kv"
)

func fullCases() []testCase {
	return []testCase{
		{"C8", "full", "a write that the store has no room for is refused with ErrFull and nothing written, and works once there is room", needFull, fullStore},
	}
}

// fullStore asks for ErrFull in the end only: a cluster may look for a server
// with room first.
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
	for _, key := range []string{"existing", "new"} {
		t.eventually("a write is refused with kv.ErrFull", func() bool {
			err := tryPut(t.ctx(), c, key, big)
			if err == nil {
				t.Fatalf("a write of %d bytes into a full store succeeded", len(big))
			}
			if errors.Is(err, kv.ErrIndeterminate) {
				t.Fatalf("a write into a full store, which refuses it, ended with %s", show(err))
			}
			return errors.Is(err, kv.ErrFull)
		})
	}
	t.disrupt("draining the store", drain)
	t.recovers(other, "existing", "before")
	t.wantGet(other, "new", nil)
	t.putSurely(c, "new", big)
	t.putSurely(c, "existing", big)
}
