package remote

import (
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Start starts this program again, to run Serve on its stdin and stdout. What
// it writes to stderr goes to the given writer. Nothing secret may be among
// the arguments: everybody on the machine sees them.
func Start(stderr io.Writer, args ...string) (Peer, error) {
	file, err := os.Executable()
	if err != nil {
		return Peer{}, fmt.Errorf("find this program's file to start it again: %w", err)
	}
	cmd := exec.Command(file, args...)
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return Peer{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Peer{}, err
	}
	if err := cmd.Start(); err != nil {
		return Peer{}, fmt.Errorf("start this program again: %w", err)
	}
	return Peer{
		Name: fmt.Sprintf("client process %d", cmd.Process.Pid), In: in, Out: out,
		Kill: func() { _ = cmd.Process.Kill() }, // it may have ended
		Wait: cmd.Wait,
	}, nil
}
