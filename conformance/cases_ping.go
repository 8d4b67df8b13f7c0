package conformance

import (
	"context"
	"time"

	"github.com/polykv/polykv/kv"
)

func pingCases() []testCase {
	return []testCase{
		{"Ping", "alive", "Ping succeeds on a store that works, and writes nothing", needPing, pingAlive},
		{"Ping", "away", "Ping fails while the store is away, at once and unretried", needPing | needLine, pingAway},
		{"Ping", "ctx", "Ping is bounded by its ctx", needPing | needLine, pingBounded},
	}
}

func pingAlive(t *trial) {
	c := t.open()
	t.ok(kv.Ping(t.ctx(), c), "Ping")
	t.wantList(c, "")
	ctx, cancel := context.WithCancel(t.ctx())
	cancel()
	t.wantErr(kv.Ping(ctx, c), "Ping with a cancelled ctx", context.Canceled)
	t.put(c, "k", "v")
	t.ok(kv.Ping(t.ctx(), c), "Ping")
}

func pingAway(t *trial) {
	c, line := t.openLine()
	t.ok(kv.Ping(t.ctx(), c), "Ping")
	line.Cut()
	before := line.Attempts()
	t.wantErr(kv.Ping(t.ctx(), c), "Ping while the store is away", kv.ErrUnavailable)
	if n := line.Attempts() - before; n > 3 {
		t.Fatalf("Ping made %d attempts", n)
	}
	line.Mend()
	t.eventually("Ping succeeds once the store is back", func() bool { return kv.Ping(t.ctx(), c) == nil })
}

func pingBounded(t *trial) {
	c, line := t.openLine()
	line.Hang()
	ctx, cancel := context.WithTimeout(t.ctx(), 20*time.Millisecond)
	defer cancel()
	t.returns("Ping after its deadline", func() {
		t.wantErr(kv.Ping(ctx, c), "Ping after its deadline", context.DeadlineExceeded)
	})
}
