//go:build unix

package testserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testserver"
)

// childVariable makes this test binary start a cluster and wait to be killed.
const childVariable = "POLYKV_TESTSERVER_PARENT"

// gone returns nil if there is no such process any more. One that nobody has reaped yet doesn't count as there.
func gone(pid int) error {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return nil
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err == nil {
		if _, state, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(state, "Z") {
			return nil
		}
	}
	return fmt.Errorf("process %d is still there", pid)
}

func until(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for err := f(); err != nil; err = f() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// runAsParent is the other process of TestParentKilled.
func runAsParent(name string) int {
	for _, k := range kinds {
		if k.name != name {
			continue
		}
		c, err := k.start(context.Background(), testserver.Options{Nodes: 3, Dir: os.Getenv(childVariable + "_DIR")})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if err := c.Pause(2); err != nil { // a stopped process must go too
			fmt.Println(err)
			return 1
		}
		fmt.Println("pids", c.Pid(0), c.Pid(1), c.Pid(2))
		select {}
	}
	fmt.Println("unknown kind", name)
	return 1
}

func TestParentKilled(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			cmd := exec.CommandContext(limited(t), os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"="+k.name, childVariable+"_DIR="+t.TempDir())
			out, err := cmd.StdoutPipe()
			check(t, err)
			check(t, cmd.Start())
			line, _ := bufio.NewReader(out).ReadString('\n')
			check(t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
			var pids [3]int
			if _, err := fmt.Sscanf(line, "pids %d %d %d", &pids[0], &pids[1], &pids[2]); err != nil {
				t.Fatalf("the other process said %q", line)
			}
			for _, pid := range pids {
				until(t, func() error { return gone(pid) })
			}
		})
	}
}
