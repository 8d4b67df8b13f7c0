package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/factory"
)

// A fleetRun is how a run of the command line ended, in a process of its own.
type fleetRun struct {
	code           int
	stdout, stderr string
	memory         fleetMemory
}

func (r fleetRun) String() string {
	return fmt.Sprintf("exit code %d\n%s\n%s", r.code, r.stdout, r.stderr)
}

// fleetMemory is the most that a process took, in bytes.
type fleetMemory struct {
	Heap     uint64 // that the runtime took for objects: the same with the race detector and without
	Resident uint64 // of the whole process, as the system counts it; 0: it doesn't tell
}

func (m fleetMemory) String() string {
	return fmt.Sprintf("%d MiB resident, %d MiB of heap", m.Resident>>20, m.Heap>>20)
}

// program is the life of a process that is the command line. It tells at its
// end, through a file of its own, how much memory it took.
func (c *fleetChild) program() (exitCode int) {
	code := cli.Run(context.Background(), factory.Builtin(), c.Args, os.Stdin, os.Stdout, os.Stderr)
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	if err := json.NewEncoder(os.NewFile(3, "memory")).Encode(fleetMemory{Heap: stats.HeapSys, Resident: residentPeak(os.Getpid())}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// residentPeak is the most memory that a process has had; 0: unknown.
func residentPeak(pid int) uint64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(data), "VmHWM:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// file writes a file for the command line.
func (f *fleet) file(name, text string) string {
	f.t.Helper()
	path := filepath.Join(f.t.TempDir(), name)
	f.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// polykv runs the command line on the two stores.
func (f *fleet) polykv(args ...string) fleetRun {
	f.t.Helper()
	config := f.file("polykv.yaml", fleetConfig(f.stores, f.options.multi))
	cmd, err := fleetCommand(fleetChild{Args: append([]string{"--config", config}, args...)})
	f.must(err)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	memory, told, err := os.Pipe()
	f.must(err)
	defer memory.Close()
	cmd.ExtraFiles = []*os.File{told}
	f.must(cmd.Start())
	f.must(told.Close())
	var r fleetRun
	decodeErr := json.NewDecoder(memory).Decode(&r.memory)
	_ = cmd.Wait() // its exit code is the answer
	r.code, r.stdout, r.stderr = cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	if decodeErr != nil {
		f.t.Fatalf("polykv %v: %v", args, r)
	}
	return r
}

// does runs the command line, which must succeed and print a text.
func (f *fleet) does(text string, args ...string) fleetRun {
	f.t.Helper()
	return f.ends(0, text, args...)
}

// ends is does for an exit code.
func (f *fleet) ends(code int, text string, args ...string) fleetRun {
	f.t.Helper()
	r := f.polykv(args...)
	if r.code != code || !strings.Contains(r.stdout+r.stderr, text) {
		f.t.Fatalf("polykv %s: it should end with %d and print %q: %v", strings.Join(args, " "), code, text, r)
	}
	return r
}
