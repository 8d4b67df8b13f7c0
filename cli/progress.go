package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/polykv/polykv/cli/internal/demo"
)

// plainInterval is how often progress is told where there is no terminal.
const plainInterval = time.Second

// progress shows how the demo goes: a bar on a terminal, else a line now and
// then.
type progress struct {
	w        io.Writer
	duration time.Duration
	bar      *progressbar.ProgressBar // nil without a terminal

	mu    sync.Mutex
	phase string
	next  time.Duration
}

func newProgress(w io.Writer, terminal bool, duration time.Duration) *progress {
	p := &progress{w: w, duration: duration, next: plainInterval}
	if terminal {
		p.bar = progressbar.NewOptions64(duration.Milliseconds(),
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetWidth(30),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false),
		)
	}
	return p
}

// show may be called from any goroutine.
func (p *progress) show(now demo.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%-11s %s", now.Phase, now))
		// At its maximum the bar would end.
		_ = p.bar.Set64(min(now.Elapsed.Milliseconds(), p.duration.Milliseconds()-1))
		return
	}
	switch {
	case now.Phase != "running" && now.Phase != p.phase:
		fmt.Fprintf(p.w, "%s ...\n", now.Phase)
	case now.Phase == "running" && now.Elapsed >= p.next:
		fmt.Fprintf(p.w, "%3.0fs  %s\n", now.Elapsed.Seconds(), now)
		p.next = now.Elapsed.Truncate(plainInterval) + plainInterval
	}
	p.phase = now.Phase
}

// finish takes the bar away.
func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish() // it can only fail to write to stderr
	}
}
