package conformance

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"
)

// goroutineLabel marks the goroutines of one case. They pass it on to those
// that they start, which tells the goroutines of concurrent cases apart.
const goroutineLabel = "conformance"

// goroutinesWith returns the stacks of the goroutines with a label, in the
// form of the goroutine profile.
func goroutinesWith(label string) ([]string, error) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return nil, err
	}
	mark := fmt.Sprintf("%q:%q", goroutineLabel, label)
	var found []string
	_, stacks, _ := strings.Cut(profile.String(), "\n") // behind the line that tells the total
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if strings.Contains(stack, mark) {
			found = append(found, stack)
		}
	}
	return found, nil
}

// goroutines returns how many goroutines of the case there are.
func (t *trial) goroutines() int {
	t.Helper()
	stacks, err := goroutinesWith(t.label)
	t.ok(err, "reading the goroutine profile")
	n := 0
	for _, stack := range stacks { // each begins with the number of those that share it
		count, _, _ := strings.Cut(stack, " ")
		n += number(count)
	}
	return n
}

// wantNoGoroutines waits until no goroutine of the case is left.
func (t *trial) wantNoGoroutines() {
	deadline := time.Now().Add(t.patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left, err := goroutinesWith(t.label)
		switch {
		case err != nil:
			t.Errorf("reading the goroutine profile: %v", err)
			return
		case len(left) == 0:
			return
		case time.Now().After(deadline):
			t.Errorf("goroutines are left after every client was closed (rule X1):\n%s", strings.Join(left, "\n\n"))
			return
		}
		time.Sleep(pause)
	}
}
