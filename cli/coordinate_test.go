package cli_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/factory"
)

// inBackground runs a command until it is interrupted, and returns its output and
// what ends it.
func inBackground(t *testing.T, args ...string) (stdout *output, end func() int) {
	t.Helper()
	stdout = &output{}
	ctx, cancel := context.WithCancelCause(t.Context()) // as a signal ends it
	var code int
	var running sync.WaitGroup
	running.Go(func() {
		var stderr output
		code = cli.Run(ctx, factory.Builtin(), args, strings.NewReader(""), stdout, &stderr)
		t.Logf("%q: %s", args, stderr.String())
	})
	end = func() int {
		cancel(errors.New("interrupted"))
		running.Wait()
		return code
	}
	t.Cleanup(func() { end() })
	return stdout, end
}

func TestElect(t *testing.T) {
	flags := onEtcd(t)
	with := func(args ...string) []string { return append(flags, args...) }
	do := func(args ...string) result { return run(t, "", with(args...)...) }

	do("elect", "leaders/job").want(t, 1, "", `polykv: nobody leads "leaders/job"`)
	before, err := strconv.Atoi(strings.TrimSpace(do("elect", "leaders/job", "--", "sh", "-c", "echo $LOCK_TERM").stdout))
	if err != nil {
		t.Fatal(err)
	}
	leads := func(further int) string { return fmt.Sprintf("leads %d\n", before+further) }
	watched, stop := inBackground(t, with("elect", "--watch", "leaders/job")...)
	watched.waitFor(t, "{}\n")
	first, endFirst := inBackground(t, with("elect", "leaders/job", "--value=one", "--", "sh", "-c", `echo "leads $LOCK_TERM"; exec sleep 60`)...)
	first.waitFor(t, leads(1))
	do("elect", "leaders/job").want(t, 0, "one\n", "")
	do("elect", "leaders/job", "--output=json").want(t, 0, `"value":"one","term":`, "")
	second, endSecond := inBackground(t, with("elect", "leaders/job", "--value=two", "--", "sh", "-c", `echo "leads $LOCK_TERM"; exec sleep 60`)...)
	if code := endFirst(); code != 3 {
		t.Errorf("a leader that was interrupted: exit code %d", code)
	}
	second.waitFor(t, leads(2))
	watched.waitFor(t, `"value":"two","term":`)
	if code := endSecond(); code != 3 {
		t.Errorf("exit code %d", code)
	}
	if code := stop(); code != 0 {
		t.Errorf("a watch that was interrupted: exit code %d", code)
	}
	do("elect", "leaders/job", "--", "sh", "-c", "exit 7").want(t, 7, "", "exit status 7")
	for _, wrong := range [][]string{{"elect"}, {"elect", "a", "b"}, {"elect", "--", "true"}, {"elect", "a", "--value=x"}, {"elect", "--watch", "a", "--", "true"}, {"elect", "a//b"}, {"elect", "--ttl=1ms", "a"}} {
		do(wrong...).want(t, 2, "", "polykv: ")
	}
	run(t, "", "--backend=memberlist", "--memberlist.bind-address=127.0.0.1", "--memberlist.bind-port=0", "elect", "a").want(t, 3, "", "polykv: ")
}

func TestMembers(t *testing.T) {
	flags := onEtcd(t)
	with := func(args ...string) []string { return append(flags, args...) }
	do := func(args ...string) result { return run(t, "", with(args...)...) }

	do("members", "ring").want(t, 1, "", `polykv: nobody is there under "ring"`)
	watched, stop := inBackground(t, with("members", "--watch", "ring")...)
	watched.waitFor(t, `{"members":[]}`+"\n")
	first, endFirst := inBackground(t, with("members", "ring", "--join=a", "--data=10.0.0.1", "--", "sh", "-c", "echo there; exec sleep 60")...)
	first.waitFor(t, "there\n")
	watched.waitFor(t, `{"members":[{"id":"a","data":"10.0.0.1"}]}`+"\n")
	do("members", "ring", "--join=b", "--", "sh", "-c", "exit 7").want(t, 7, "", "exit status 7")
	do("members", "ring").want(t, 0, "a\t10.0.0.1\n", "")
	do("members", "ring", "--output=json").want(t, 0, `{"id":"a","data":"10.0.0.1"}`+"\n", "")
	again, endAgain := inBackground(t, with("members", "ring", "--join=a", "--data=again", "--", "sh", "-c", "echo there; exec sleep 60")...)
	again.waitFor(t, "there\n")
	if code := endFirst(); code != 3 {
		t.Errorf("one that was replaced: exit code %d", code)
	}
	do("members", "ring").want(t, 0, "a\tagain\n", "")
	if code := endAgain(); code != 3 {
		t.Errorf("one that was interrupted: exit code %d", code)
	}
	watched.waitFor(t, `{"id":"a","data":"again"}]}`+"\n"+`{"members":[]}`+"\n")
	if code := stop(); code != 0 {
		t.Errorf("a watch that was interrupted: exit code %d", code)
	}
	for _, wrong := range [][]string{{"members"}, {"members", "a", "--join=b"}, {"members", "a", "--", "true"}, {"members", "a", "--data=x"}, {"members", "a", "--grace=-1s"}, {"members", "a", "--ttl=1ms"}} {
		do(wrong...).want(t, 2, "", "polykv: ")
	}
	do("members", "ring", "--join=a/b", "--", "true").want(t, 2, "", "the id")
}

// Members are there on gossip too.
func TestMembersOnGossip(t *testing.T) {
	address, _ := gossipRun(t)
	joined, end := inBackground(t, append(gossipFlags("member", address), "members", "ring", "--join=a", "--data=x", "--", "sh", "-c", "echo there; exec sleep 60")...)
	joined.waitFor(t, "there\n")
	watched, stop := inBackground(t, append(gossipFlags("visitor", address), "members", "--watch", "ring")...)
	watched.waitFor(t, `{"members":[{"id":"a","data":"x"}]}`+"\n") // writes are on their way for a moment
	if code := end(); code != 3 {
		t.Errorf("one that was interrupted: exit code %d", code)
	}
	watched.waitFor(t, `{"id":"a","data":"x"}]}`+"\n"+`{"members":[]}`+"\n")
	if code := stop(); code != 0 {
		t.Errorf("a watch that was interrupted: exit code %d", code)
	}
}
