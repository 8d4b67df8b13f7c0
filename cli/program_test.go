package cli_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programDir holds what program builds; "" if it has not.
var programDir string

// program builds the command once, with the race detector if the tests have
// it, and returns its file.
var program = sync.OnceValues(func() (string, error) {
	_ = os.Getenv("POLYKV_TREE") // set by make test, so that no result from before a change of the command's modules is taken
	dir, err := os.MkdirTemp("", "polykv-cli-")
	if err != nil {
		return "", err
	}
	programDir = dir
	file := filepath.Join(dir, "polykv")
	race := "-race=false"
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		race = "-race=true"
	}
	if out, err := exec.Command("go", "build", race, "-o", file, "../cmd/polykv").CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return file, nil
})

// command prepares the real program with its output in buffers.
func command(t *testing.T, args ...string) (cmd *exec.Cmd, stdout, stderr *output) {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), file, args...)
	stdout, stderr = &output{}, &output{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

func TestProgram(t *testing.T) {
	t.Run("version", testVersion)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run("watch until "+signal.String(), func(t *testing.T) { testWatchEndsBy(t, signal) })
	}
	t.Run("nobody reads", testEndsUnread)
	t.Run("demo until interrupt", testDemoEndsBySignal)
	t.Run("demo unread", testDemoUnread)
	t.Run("demo in processes", testDemoInProcesses)
	t.Run("the second signal ends at once", testSecondSignal)
}

func testVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		cmd, stdout, stderr := command(t, arg)
		if err := cmd.Run(); err != nil {
			t.Fatal(err, stderr)
		}
		lines := strings.Split(stdout.String(), "\n")
		if len(lines) != 10 || !strings.HasPrefix(lines[0], "polykv ") || !strings.HasPrefix(lines[1], "go1.") ||
			!strings.HasPrefix(lines[2], "github.com/hashicorp/consul/api v1.") ||
			!strings.HasPrefix(lines[3], "github.com/hashicorp/memberlist v0.") ||
			!strings.HasPrefix(lines[4], "github.com/jackc/pgx/v5 v5.") || !strings.HasPrefix(lines[5], "github.com/nats-io/nats.go v1.") ||
			!strings.HasPrefix(lines[6], "go.etcd.io/bbolt v1.") || !strings.HasPrefix(lines[7], "go.etcd.io/etcd/client/v3 v3.") ||
			lines[8] != "backends: bolt, consul, etcd, inmemory, memberlist, nats, postgres" {
			t.Errorf("%s printed\n%s", arg, stdout)
		}
	}
}

func testWatchEndsBy(t *testing.T, signal os.Signal) {
	cmd, stdout, stderr := command(t, onEtcd(t, "watch", "k")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.waitFor(t, `{"type":"synced"}`+"\n")
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stderr.String() != "" {
		t.Errorf("%v, stderr %q", err, stderr)
	}
}

// What follows a store ends when the reader of its pipe is gone, though there is
// nothing to write, and as the next line would have ended it.
func testEndsUnread(t *testing.T) {
	stores := newTwoStores(t)
	for _, args := range [][]string{
		{"watch", "k"}, {"elect", "leaders/x", "--watch"}, {"members", "ring", "--watch"}, {"migrate", "status", "--every=1h"},
	} {
		flags := onEtcd(t)
		if args[0] == "migrate" {
			flags = stores.flags
		}
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd, _, stderr := command(t, append(args, flags...)...)
		cmd.Stdout = writer
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		writer.Close()
		if _, err := reader.Read(make([]byte, 1)); err != nil {
			t.Errorf("%v: %v, %s", args, err, stderr)
		}
		reader.Close()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait() // its state tells
		}()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Errorf("%v goes on though nobody reads", args)
			_ = cmd.Process.Kill()
			<-ended
		}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGPIPE {
			t.Errorf("%v ended with %v: %s", args, cmd.ProcessState, stderr)
		}
	}
}

func testDemoEndsBySignal(t *testing.T) {
	cmd, stdout, stderr := command(t, onEtcd(t, "demo", "--duration=1h")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.waitFor(t, " calls\n")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(stdout.String(), "All 9 promises kept.") {
		t.Errorf("%v\n%s\n%s", err, stdout, stderr)
	}
	run(t, "", onEtcd(t, "list")...).want(t, 0, "", "") // nothing is left
}

// A demo whose reader is gone removes its keys all the same.
func testDemoUnread(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	defer writer.Close()
	cmd, _, stderr := command(t, onEtcd(t, "demo", "--duration=1s")...)
	cmd.Stdout = writer
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 3 || !strings.Contains(stderr.String(), "broken pipe") {
		t.Errorf("%v, %s", err, stderr)
	}
	run(t, "", onEtcd(t, "list")...).want(t, 0, "", "") // nothing is left
}

func testDemoInProcesses(t *testing.T) {
	cmd, stdout, stderr := command(t, "demo", "--processes", "--from=etcd", "--start-servers", "--duration=2s", "--clients=2", "--workers=3")
	err := cmd.Run()
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{"clients 2 in processes of their own, ", "to the store carried", "everything was moved", "All 9 promises kept."} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("it lacks %q:\n%s\n%s", want, stdout, stderr)
		}
	}
}

func testSecondSignal(t *testing.T) {
	cluster := startOwn(t)
	cmd, _, stderr := command(t, "demo", "--from=etcd", "--etcd.endpoints="+cluster.Endpoints()[0], "--duration=1h")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.waitFor(t, " calls\n")
	if err := cluster.Pause(); err != nil { // cleaning up would take long
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	start := time.Now()
	for {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		select {
		case err := <-ended:
			if err == nil || time.Since(start) > 30*time.Second {
				t.Errorf("it ended with %v after %v", err, time.Since(start))
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
