// Package run has contestants do the work, in turns.
package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/polykv/polykv/bench/workload"
)

// limit is how long a contestant may take for one answer.
const limit = 3 * time.Minute

// process is a contestant at work. Each work has a process of its own, so that
// none inherits another's heap or goroutines.
type process struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *json.Decoder
	errors  *tail
}

func start(ctx context.Context, command []string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, command[0], command[1:]...), errors: &tail{}}
	p.cmd.Stderr = p.errors
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.answers = json.NewDecoder(stdout)
	return p, p.cmd.Start()
}

// ask sends a request and waits for the answer; a contestant that is late is
// killed.
func (p *process) ask(r workload.Request) (*workload.Sample, error) {
	late := time.AfterFunc(limit, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err := json.NewEncoder(p.stdin).Encode(r); err != nil {
		return nil, p.died(err)
	}
	var a workload.Answer
	if err := p.answers.Decode(&a); err != nil {
		return nil, p.died(err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Sample, nil
}

func (p *process) died(err error) error {
	return fmt.Errorf("the contestant's process ended or took longer than %v: %w; the end of its stderr: %s", limit, err, p.errors)
}

// stop ends the process.
func (p *process) stop() {
	_ = p.stdin.Close() // the contestant's cue
	late := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_ = p.cmd.Wait()
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const enough = 2000
	t.text = append(t.text, p...)
	if len(t.text) > enough {
		t.text = t.text[len(t.text)-enough:]
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.text)) }

// executable is this program, which is polykv's and the raw clients'
// contestant too.
func executable(arguments ...string) ([]string, error) {
	self, err := os.Executable()
	return append([]string{self}, arguments...), err
}
