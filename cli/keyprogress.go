package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	humanize "github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"

	"github.com/polykv/polykv/kv/multi/migrate"
)

// keyProgress shows how far a command has got through the keys: a bar with rate
// and time left on a terminal, else a line now and then.
type keyProgress struct {
	w        io.Writer
	terminal bool
	prefix   string
	count    func(prefix string) int // of all keys; 0: unknown
	now      func() time.Time
	throttle time.Duration // a bar is drawn at most so often

	mu    sync.Mutex
	work  migrate.Work
	total int
	last  migrate.Totals
	began time.Time
	next  time.Time
	bar   *progressbar.ProgressBar
}

func newKeyProgress(w io.Writer, terminal bool) *keyProgress {
	return &keyProgress{w: w, terminal: terminal, now: time.Now, throttle: 100 * time.Millisecond}
}

// show may be called from any goroutine.
func (p *keyProgress) show(now migrate.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Work != p.work || now.Totals.Keys < p.last.Keys { // the next round
		p.begin(now.Work)
	}
	p.last = now.Totals
	p.total = max(p.total, now.Totals.Keys)
	if p.terminal {
		p.bar.ChangeMax(max(p.total, 1) + 1) // at its maximum the bar would end
		p.bar.Describe(fmt.Sprintf("%-10s%s", now.Work, found(now.Totals)))
		_ = p.bar.Set(now.Totals.Keys)
		return
	}
	if at := p.now(); !at.Before(p.next) {
		p.next = at.Add(plainInterval)
		fmt.Fprintln(p.w, p.line(at))
	}
}

// begin starts a round through the keys.
func (p *keyProgress) begin(work migrate.Work) {
	p.clearBar()
	p.work, p.began, p.last = work, p.now(), migrate.Totals{}
	p.next = p.began.Add(plainInterval)
	if p.total == 0 && p.count != nil && work != migrate.Completing { // writes wait for that one
		p.total = p.count(p.prefix)
	}
	if p.terminal {
		p.bar = progressbar.NewOptions(max(p.total, 1)+1,
			progressbar.OptionSetWriter(p.w),
			progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("keys"),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(p.throttle),
		)
	}
}

// line is one line of plain progress.
func (p *keyProgress) line(at time.Time) string {
	text := fmt.Sprintf("%s: %s", p.work, thousands(p.last.Keys))
	elapsed := at.Sub(p.began).Seconds()
	rate := 0.0
	if elapsed > 0 {
		rate = float64(p.last.Keys) / elapsed
	}
	if p.total > p.last.Keys {
		text += fmt.Sprintf(" of %s keys, %.0f/s", thousands(p.total), rate)
		if rate > 0 {
			left := time.Duration(float64(p.total-p.last.Keys) / rate * float64(time.Second))
			text += fmt.Sprintf(", %v left", left.Round(time.Second))
		}
	} else {
		text += fmt.Sprintf(" keys, %.0f/s", rate)
	}
	return text + found(p.last)
}

// found says what there was to do, if anything.
func found(t migrate.Totals) string {
	text := ""
	for _, n := range []struct {
		count int
		word  string
	}{{t.Copied, "copied"}, {t.Deleted, "deleted"}, {t.Failed, "failed"}} {
		if n.count > 0 {
			text += fmt.Sprintf(", %s %s", thousands(n.count), n.word)
		}
	}
	return text
}

// clear takes the bar away, before something is written.
func (p *keyProgress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearBar()
	p.work = ""
}

func (p *keyProgress) clearBar() {
	if p.bar != nil {
		_ = p.bar.Finish() // it can only fail to write to stderr
		p.bar = nil
	}
}

// thousands writes n in groups of three digits.
func thousands(n int) string { return humanize.Comma(int64(n)) }
