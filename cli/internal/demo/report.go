package demo

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	humanize "github.com/dustin/go-humanize"
)

// Report is what a demo saw.
type Report struct {
	Elapsed  time.Duration
	Promises []*Promise

	rows   []row
	notes  []string
	broken int
}

// row is one kind of call or event.
type row struct {
	name   string
	timing histogram
}

// Broken returns the number of promises that were broken.
func (r *Report) Broken() int { return r.broken }

func (r *run) report(elapsed time.Duration) *Report {
	report := &Report{Elapsed: elapsed, Promises: r.promises.all()}
	for op, name := range []string{"update a counter", "create a key", "delete a key", "read"} {
		calls := newHistogram()
		for _, w := range r.workers {
			calls.Merge(w.timing[op].Histogram)
		}
		report.rows = append(report.rows, row{name, calls})
	}
	lag := newHistogram()
	r.observer.mu.Lock()
	lag.Merge(r.observer.lag.Histogram)
	r.observer.mu.Unlock()
	report.rows = append(report.rows, row{"watch event (lag)", lag})
	report.notes = r.notes()

	clean := "none did"
	if n, _ := r.causes.get(); n > 0 {
		clean = humanize.Comma(int64(n)) + " failed, see above"
	}
	writers := int64(len(r.workers))
	r.promises.contention.Evidence = count(writers, "worker") + " on " + count(int64(len(r.counters)), "counter")
	r.promises.errors.Evidence = count(r.done.Load(), "call") + ", " + clean
	r.promises.order.Evidence = r.promises.pictures.Evidence
	for _, p := range report.Promises {
		if times, _ := p.Broken(); times > 0 {
			report.broken++
		}
	}
	return report
}

func (r *run) notes() []string {
	var notes []string
	if writes := r.observer.writes.Load(); writes > 0 {
		notes = append(notes, fmt.Sprintf("%s to the store carried %.1f calls each (calls on one key in one client share a write);\n"+
			"%s more met another client's write and were made again.",
			count(writes, "write"), float64(r.observer.carried.Load())/float64(writes), humanize.Comma(r.observer.conflicts.Load())))
	}
	if r.Move != nil {
		notes = append(notes, r.story())
	}
	if n := r.observer.resyncs.Load(); n > 0 {
		notes = append(notes, fmt.Sprintf("Watches lost the store %s and caught up by themselves.", count(n, "time")))
	}
	if n, last := r.causes.get(); n > 0 {
		notes = append(notes, fmt.Sprintf("%s failed because of the store, the last one with:\n%v", count(int64(n), "call"), last))
	}
	return notes
}

// Print writes the report as text for people.
func (r *Report) Print(w io.Writer) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "CALL\t%12s\t%10s\t%9s\t%9s\t%9s\n", "COUNT", "PER SECOND", "P50", "P99", "MAX")
	for _, row := range r.rows {
		t := row.timing
		perSecond := int64(float64(t.TotalCount()) / max(r.Elapsed.Seconds(), 0.001))
		fmt.Fprintf(table, "%s\t%12s\t%10s\t%9s\t%9s\t%9s\n", row.name, humanize.Comma(t.TotalCount()), humanize.Comma(perSecond),
			short(t.percentile(50)), short(t.percentile(99)), short(t.percentile(100)))
	}
	table.Flush()
	for _, note := range r.notes {
		fmt.Fprintf(&text, "\n%s\n", note)
	}
	fmt.Fprintf(table, "\n\tPROMISE\tCHECKED\n")
	for _, p := range r.Promises {
		verdict := "ok"
		if times, _ := p.Broken(); times > 0 {
			verdict = "BROKEN"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", verdict, p.Text, p.Evidence)
	}
	table.Flush()
	for _, p := range r.Promises {
		if times, first := p.Broken(); times > 0 {
			fmt.Fprintf(&text, "\nBROKEN: %s: %s, first: %s\n", p.Text, count(int64(times), "time"), first)
		}
	}
	fmt.Fprintf(&text, "\n%s\n", r.conclusion())
	_, err := io.WriteString(w, text.String())
	return err
}

func (r *Report) conclusion() string {
	if r.broken == 0 {
		return fmt.Sprintf("All %d promises kept.", len(r.Promises))
	}
	return fmt.Sprintf("%d of %d promises BROKEN.", r.broken, len(r.Promises))
}

// short rounds to three digits, which is more than a histogram has.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

// count writes a number of things.
func count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return humanize.Comma(n) + " " + thing
}
