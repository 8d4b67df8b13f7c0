package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/cli/internal/demo"
)

func TestProgressBarOnATerminal(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, true, 10*time.Second)
	p.show(demo.Progress{Phase: "running", Elapsed: 5 * time.Second, Calls: 1234})
	p.show(demo.Progress{Phase: "running", Elapsed: time.Minute, Calls: 5678, Failed: 2})
	p.show(demo.Progress{Phase: "verifying", Elapsed: time.Minute, Calls: 5678})
	p.finish()
	for _, want := range []string{"running     1,234 calls  50% |", "running     5,678 calls, 2 failed  99% |", "verifying   5,678 calls"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %q", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\n") || !strings.HasSuffix(out.String(), "\r") {
		t.Errorf("the bar doesn't stay in its line, or isn't taken away: %q", out.String())
	}
}

func TestProgressLinesElsewhere(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, false, 10*time.Second)
	for _, ms := range []int{0, 400, 1001, 1500, 1999, 2100, 5000} {
		p.show(demo.Progress{Phase: "running", Elapsed: time.Duration(ms) * time.Millisecond, Calls: int64(ms)})
	}
	p.show(demo.Progress{Phase: "verifying"})
	p.show(demo.Progress{Phase: "verifying"})
	p.finish()
	if want := "  1s  1,001 calls\n  2s  2,100 calls\n  5s  5,000 calls\nverifying ...\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestValueOnATerminalEndsItsLine(t *testing.T) {
	for terminal, want := range map[bool]string{true: "v\n", false: "v"} {
		var out bytes.Buffer
		if err := writeValue(&out, terminal, []byte("v")); err != nil || out.String() != want {
			t.Errorf("terminal %v: %q, %v", terminal, out.String(), err)
		}
	}
}
