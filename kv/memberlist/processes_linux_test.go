package memberlist

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// forgotten is how long the processes of these tests remember deletions.
const forgotten = 2 * time.Second

// lan is a network of processes, each in a network namespace of its own, as on
// machines that are joined by a switch.
type lan struct {
	t      *testing.T
	change func(*Config) // of all of them
	hub    *process      // in whose namespace the switch is
	nodes  []*process
	seeds  []string
}

// process is this test binary in a namespace of its own; it does what it reads,
// see obey.
type process struct {
	t       *testing.T
	name    string
	address string
	port    string // of the switch
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *bufio.Reader
	stderr  bytes.Buffer
}

func newLAN(t *testing.T, change func(*Config)) *lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, tool := range []string{"ip", "nsenter", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the network is made by %s: %v", tool, err)
		}
	}
	l := &lan{t: t, change: change, hub: newProcess(t, "hub")}
	l.hub.sh("ip link add switch type bridge")
	l.hub.sh("ip link set switch up")
	return l
}

func newProcess(t *testing.T, name string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: name, cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), obeyVariable+"=1")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.answers = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.stdin.Close()
		_ = p.cmd.Process.Kill() // it may stand still, and says nothing that this test waits for
		_ = p.cmd.Wait()
		if t.Failed() && p.stderr.Len() > 0 {
			t.Logf("%s: %s", p.name, &p.stderr)
		}
	})
	p.tell("ready")
	return p
}

// sh runs a command in the process' namespace.
func (p *process) sh(command string) {
	p.t.Helper()
	args := append([]string{"-t", strconv.Itoa(p.cmd.Process.Pid), "-n"}, strings.Fields(command)...)
	if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %s: %v: %s", p.name, command, err, out)
	}
}

// tell has the process do something and returns its answer.
func (p *process) tell(format string, args ...any) string {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.stdin, format+"\n", args...); err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, &p.stderr)
	}
	line, err := p.answers.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, &p.stderr)
	}
	answer, problem, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
	if problem != "" {
		p.t.Fatalf("%s: "+format+": %s", append(append([]any{p.name}, args...), problem)...)
	}
	return answer
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// start starts one more node.
func (l *lan) start(name string) *process {
	l.t.Helper()
	p := newProcess(l.t, name)
	number := len(l.nodes) + 1
	p.address, p.port = fmt.Sprintf("10.77.0.%d", number), fmt.Sprintf("port%d", number)
	l.hub.sh(fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", p.port, p.cmd.Process.Pid))
	p.sh("ip link set lo up")
	p.sh("ip addr add " + p.address + "/24 dev eth0")
	p.sh("ip link set eth0 up")
	l.hub.sh("ip link set " + p.port + " up")
	l.plug(p)
	cfg := nodeConfig(name)
	cfg.BindAddress, cfg.BindPort, cfg.Join = p.address, 7946, l.seeds
	cfg.StreamTimeout, cfg.TombstoneTimeout = forgotten/2, forgotten
	l.change(&cfg)
	text, err := json.Marshal(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	p.tell("start %s", text)
	l.nodes, l.seeds = append(l.nodes, p), append(l.seeds, p.address+":7946")
	return p
}

// plug and unplug are of a cable; the switch loses what comes without.
func (l *lan) plug(p *process)   { l.t.Helper(); l.hub.sh("ip link set " + p.port + " master switch") }
func (l *lan) unplug(p *process) { l.t.Helper(); l.hub.sh("ip link set " + p.port + " nomaster") }

// slow bounds both directions of a cable to 8 Mbit/s.
func (l *lan) slow(p *process) {
	l.t.Helper()
	const rate = " root tbf rate 8mbit burst 16kb latency 400ms"
	l.hub.sh("tc qdisc add dev " + p.port + rate)
	p.sh("tc qdisc add dev eth0" + rate)
}

// await waits until the nodes are equal, and have so many keys below each
// prefix.
func (l *lan) await(what string, want map[string]int, nodes ...*process) {
	l.t.Helper()
	var seen string
	last := func() string { return what + "; the last seen: " + seen }
	soonOr(l.t, last, func() bool {
		seen = ""
		digests := map[string]bool{}
		ok := true
		for _, p := range nodes {
			digests[p.tell("digest")] = true
			for prefix, count := range want {
				got := p.tell("count %s", prefix)
				seen += fmt.Sprintf("%s has %s of %d %s; ", p.name, got, count, prefix)
				ok = ok && got == strconv.Itoa(count)
			}
		}
		seen += fmt.Sprintf("%d different digests", len(digests))
		return ok && len(digests) == 1
	})
}

func soonOr(t *testing.T, what func() string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * patience); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", 2*patience, what())
		}
	}
}

// awaitLive waits until each of the nodes has so many live peers.
func (l *lan) awaitLive(count int, nodes ...*process) {
	l.t.Helper()
	for _, p := range nodes {
		soonOr(l.t, func() string { return fmt.Sprintf("%s has %d peers", p.name, count) }, func() bool { return p.tell("peers") == strconv.Itoa(count) })
	}
}

// awaitForgotten waits until nodes have no tombstone left of what was deleted.
func (l *lan) awaitForgotten(deleted time.Time, nodes ...*process) {
	l.t.Helper()
	l.awaitAge(deleted, 2*forgotten)
	for _, p := range nodes {
		soonOr(l.t, func() string { return p.name + " has forgotten deletions" }, func() bool { return p.tell("tombstones") == "0" })
	}
}

// awaitAge waits until so much time has passed.
func (l *lan) awaitAge(since time.Time, age time.Duration) {
	l.t.Helper()
	soon(l.t, fmt.Sprintf("%v have passed", age), func() bool { return time.Since(since) > age })
}

// three starts three processes that all have 200 keys to be deleted and 100 that
// stay.
func three(t *testing.T, change func(*Config)) (l *lan, a, b, c *process) {
	t.Helper()
	l = newLAN(t, change)
	a, b, c = l.start("a"), l.start("b"), l.start("c")
	l.awaitLive(2, a, b, c)
	a.tell("put doomed/ 200 20")
	c.tell("put kept/ 100 20")
	l.await("all begin with the same", map[string]int{"doomed/": 200, "kept/": 100}, a, b, c)
	return l, a, b, c
}

func tolerating(d time.Duration) func(*Config) {
	return func(cfg *Config) { cfg.PartitionTolerance = d }
}

// TestAwayForLongerThanTombstonesLast is the first order of events of
// TestSimulatedOrders, by processes and cables.
func TestAwayForLongerThanTombstonesLast(t *testing.T) {
	l, a, b, c := three(t, tolerating(time.Hour))
	l.unplug(c)
	l.awaitLive(1, a, b)
	l.awaitLive(0, c)
	a.tell("delete doomed/")
	deleted := time.Now()
	b.tell("put written/ 3000 300")
	c.tell("put apart/ 50 20")
	l.awaitAge(deleted, 2*forgotten)
	l.slow(c)
	l.plug(c)
	l.await("the deletions stay and all that was written is there",
		map[string]int{"doomed/": 0, "kept/": 100, "written/": 3000, "apart/": 50}, a, b, c)
}

// tolerances are those with which a process comes back in time, and too late:
// then nobody has a tombstone any more.
func tolerances(t *testing.T, test func(t *testing.T, tolerance time.Duration, awaitThat func(l *lan, deleted time.Time, nodes ...*process))) {
	t.Run("within the tolerance", func(t *testing.T) {
		test(t, time.Hour, func(l *lan, deleted time.Time, _ ...*process) { l.awaitAge(deleted, 2*forgotten) })
	})
	t.Run("beyond the tolerance", func(t *testing.T) { test(t, forgotten, (*lan).awaitForgotten) })
}

func TestFrozenForLongerThanTombstonesLast(t *testing.T) {
	tolerances(t, func(t *testing.T, tolerance time.Duration, awaitThat func(*lan, time.Time, ...*process)) {
		l, a, b, c := three(t, tolerating(tolerance))
		c.tell("put last/ 1 20")
		c.signal(syscall.SIGSTOP)
		l.awaitLive(1, a, b)
		a.tell("delete doomed/")
		deleted := time.Now()
		b.tell("put written/ 50 20")
		awaitThat(l, deleted, a, b)
		c.signal(syscall.SIGCONT)
		l.await("the deletions stay and all that was written is there",
			map[string]int{"doomed/": 0, "kept/": 100, "written/": 50, "last/": 1}, a, b, c)
	})
}

func TestNewProcessOfTheNameOfWhoIsAway(t *testing.T) {
	tolerances(t, func(t *testing.T, tolerance time.Duration, awaitThat func(*lan, time.Time, ...*process)) {
		l, a, b, old := three(t, tolerating(tolerance))
		l.unplug(old)
		l.awaitLive(1, a, b)
		again := l.start("c")
		l.awaitLive(2, a, b, again)
		l.await("the new one has all", map[string]int{"doomed/": 200, "kept/": 100}, a, b, again)
		a.tell("delete doomed/")
		deleted := time.Now()
		again.tell("put written/ 50 20")
		old.tell("put apart/ 50 20")
		awaitThat(l, deleted, a, b, again)
		l.plug(old)
		l.await("the deletions stay and all that was written is there",
			map[string]int{"doomed/": 0, "kept/": 100, "written/": 50, "apart/": 50}, a, b, again, old)
	})
}
