package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/factory"
)

func TestLock(t *testing.T) {
	flags, client := inMemory(t)
	do := func(args ...string) result { return run(t, "", append(flags, args...)...) }

	got := do("lock", "locks/job", "--", "sh", "-c", `echo "$LOCK_NAME $LOCK_TERM $LOCK_GUARD_KEY"; test "$LOCK_GUARD_VERSION" -gt 0`)
	if got.code != 0 || got.stdout != "locks/job 1 locks/job/holder\n" {
		t.Errorf("%+v", got)
	}
	if got := do("lock", "locks/job", "--", "sh", "-c", "exit 7"); got.code != 7 || !strings.Contains(got.stderr, "exit status 7") {
		t.Errorf("a command that fails: %+v", got)
	}
	for _, command := range [][]string{{"lock", "locks/job"}, {"elect", "locks/job"}, {"members", "locks/m", "--join=me"}} {
		got := do(append(command, "--", "sh", "-c", "kill -KILL $$")...)
		if got.code != 128+9 || !strings.Contains(got.stderr, "signal: killed") {
			t.Errorf("%s of a command that a signal ends: %+v", command[0], got)
		}
	}
	if got := do("lock", "locks/job", "--", "no-such-command"); got.code != 3 || !strings.Contains(got.stderr, "no-such-command") {
		t.Errorf("a command that is none: %+v", got)
	}
	for _, wrong := range [][]string{{"lock", "a"}, {"lock", "a", "true"}, {"lock", "--", "true"}, {"lock", "a//b", "--", "true"}, {"lock", "--ttl=1ms", "a", "--", "true"}} {
		if got := do(wrong...); got.code != 2 {
			t.Errorf("%q: %+v", wrong, got)
		}
	}

	l, err := coordination.NewLock(client, "locks/job", coordination.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	held, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := do("lock", "--no-wait", "locks/job", "--", "true"); got.code != 1 || !strings.Contains(got.stderr, `the lock "locks/job" is held`) {
		t.Errorf("a lock that is held: %+v", got)
	}
	ended := make(chan result)
	go func() { ended <- do("lock", "locks/job", "--", "echo", "my turn") }()
	if err := held.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-ended; got.code != 0 || got.stdout != "my turn\n" {
		t.Errorf("one that waited: %+v", got)
	}
	if got := run(t, "", "--backend=memberlist", "--memberlist.bind-address=127.0.0.1", "--memberlist.bind-port=0", "lock", "a", "--", "true"); got.code == 0 {
		t.Errorf("a lock on gossip: %+v", got)
	}
}

// A command whose lock is lost is ended, and its code is not the command's.
func TestLockThatIsLostEndsItsCommand(t *testing.T) {
	flags, client := inMemory(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout output
	ended := make(chan result, 1)
	go func() {
		var stderr output
		args := append(flags, "lock", "--ttl=3s", "job", "--", "sh", "-c", "echo held; exec sleep 60")
		code := cli.Run(ctx, factory.Builtin(), args, strings.NewReader(""), &stdout, &stderr)
		ended <- result{code, stdout.String(), stderr.String()}
	}()
	for !strings.Contains(stdout.String(), "held") {
		if ctx.Err() != nil {
			t.Fatal("the command was not run")
		}
		time.Sleep(time.Millisecond)
	}
	if err := client.Delete(ctx, "job/holder"); err != nil {
		t.Fatal(err)
	}
	got := <-ended
	if got.code != 3 || !strings.Contains(got.stderr, "the lock was lost") {
		t.Errorf("%+v", got)
	}
}
