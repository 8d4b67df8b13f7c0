package cli

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/polykv/polykv/kv/multi/migrate"
)

func (a *app) printChange(c migrate.Change, dryRun bool) {
	would := ""
	if dryRun {
		would = "would become "
	}
	fmt.Fprintf(a.stdout, "%s: %s%s (was %s), epoch %d\n", c.Store, would, c.To, cmp.Or(string(c.From), "without a record"), c.Epoch)
}

func (a *app) printResult(s *twoStores, r migrate.Result) {
	for _, work := range []struct {
		did    string
		totals *migrate.Totals
	}{{"compared before", r.Before}, {"verified while writes waited", r.Fenced}, {"compared", r.Compared}} {
		if t := work.totals; t != nil {
			fmt.Fprintf(a.stdout, "%s: %s keys, %s copied, %s deleted\n", work.did, thousands(t.Keys), thousands(t.Copied), thousands(t.Deleted))
		}
	}
	if r.Pause > 0 {
		fmt.Fprintf(a.stdout, "writes waited for %v\n", r.Pause.Round(time.Millisecond))
	}
	switch {
	case r.DryRun && len(r.Changes) > 0:
		fmt.Fprintln(a.stdout, "nothing was changed")
		return
	case len(r.Changes) == 0:
		fmt.Fprintln(a.stdout, "there was nothing to do")
	}
	if r.Phase == migrate.Unknown && r.Now == "" { // by force
		fmt.Fprintln(a.stdout, `next: keep the other store away from clients, and run "polykv migrate abort" when it is back, before they may reach it`)
		return
	}
	if len(r.Silent) > 0 {
		fmt.Fprintf(a.stdout, "clients: %d answered; crashed or cut off: %s\n", r.Clients, strings.Join(r.Silent, ", "))
	}
	if r.Left != "" {
		fmt.Fprintf(a.stdout, "the other store does not answer: %s\n", r.Left)
	}
	now, next := r.Phase.Describe(s.sides[0].name, s.sides[1].name)
	if r.Now != "" {
		now, next = r.Now, r.Next
	}
	fmt.Fprintf(a.stdout, "now:  %s\nnext: %s\n", now, next)
}

// maxShown is how many keys a forecast lists.
const maxShown = 10

// printForecast tells what a dry run expects.
func (a *app) printForecast(r migrate.Result) {
	for i, key := range r.Deletes {
		if i == maxShown {
			fmt.Fprintf(a.stdout, "would delete more keys\n")
			break
		}
		fmt.Fprintf(a.stdout, "would delete %s\n", key)
	}
	if r.Predicted > 0 {
		fmt.Fprintf(a.stdout, "writes would wait for about %v or less: as long as it took to compare the stores beside the clients' work\n", r.Predicted.Round(time.Millisecond))
	}
}

func (a *app) printPlan(s *twoStores, p migrate.Plan) {
	fmt.Fprintln(a.stdout, s.describe())
	for _, store := range []migrate.StorePlan{p.Source, p.Target} {
		fmt.Fprintf(a.stdout, "%s: %s keys, %s bytes, the longest key %d bytes", store.Name, thousands(store.Keys), thousands(int(store.Bytes)), store.LongestKey)
		if store.LargestAt != "" {
			fmt.Fprintf(a.stdout, ", the largest value %s bytes (%s)", thousands(store.LargestValue), store.LargestAt)
		}
		fmt.Fprintln(a.stdout)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, c := range p.Checks {
		verdict := "ok"
		if !c.OK {
			verdict = "NO"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", verdict, c.Store, c.Name, c.Detail)
	}
	_ = w.Flush() // it can only fail to write to stdout
	for _, problem := range p.Problems {
		fmt.Fprintf(a.stdout, "key %q: %s\n", problem.Key, problem.Problem)
	}
	if more := p.ProblemCount - len(p.Problems); more > 0 {
		fmt.Fprintf(a.stdout, "and %s more\n", thousands(more))
	}
	for _, store := range []migrate.StorePlan{p.Source, p.Target} {
		for _, key := range store.Foreign {
			fmt.Fprintf(a.stdout, "%s: the key %q breaks polykv's rules\n", store.Name, key)
		}
	}
	if p.Source.Keys == 0 {
		fmt.Fprintf(a.stdout, "%s: 0 keys%s: is this the store, and the prefix?\n", p.Source.Name, below(s.sides[0].config.Prefix))
	}
	if p.Ready {
		_, next := p.Phase.Describe(p.Source.Name, p.Target.Name)
		if p.Phase == migrate.None {
			next = `run "polykv migrate start"`
		}
		fmt.Fprintf(a.stdout, "ready; next: %s\n", next)
	}
}

func below(prefix string) string {
	if prefix == "" {
		return ""
	}
	return " below " + prefix
}

func (a *app) printStatus(s *twoStores, st migrate.Status) {
	fmt.Fprintf(a.stdout, "%s\nnow:  %s\nnext: %s\n\n", s.describe(), st.Now, st.Next)
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "STORE\tSTATE\tEPOCH\tMIGRATION\tCLIENTS\tLAST CHANGE\n")
	for _, store := range []migrate.StoreStatus{st.Source, st.Target} {
		state, epoch, id, by := "no record", "-", "-", "-"
		switch {
		case store.Error != "":
			state = "unreadable"
		case store.Record != nil:
			state, epoch, id = string(store.Record.State), fmt.Sprint(store.Record.Epoch), store.Record.Migration
			by = store.Record.By.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", store.Name, state, epoch, id, store.Clients, by)
	}
	_ = w.Flush() // it can only fail to write to stdout
	for _, store := range []migrate.StoreStatus{st.Source, st.Target} {
		if store.Error != "" {
			fmt.Fprintf(a.stdout, "%s: %s\n", store.Name, store.Error)
		}
	}
	if len(st.Clients) > 0 {
		a.printClients(st)
	}
	fmt.Fprintf(a.stdout, "\nclients: %d seen, %d behind; calls that wait: %s; to be mirrored: %s keys, the oldest for %v\n",
		st.Live, st.Behind, thousands(st.Waiting), thousands(st.Backlog), st.Lag.Round(time.Millisecond))
}

func (a *app) printClients(st migrate.Status) {
	fmt.Fprintln(a.stdout)
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "CLIENT\tVERSION\tUSES\tMIRRORS INTO\tBACKLOG\tFAILED\tWAITING\tSEEN IN\tLAST SEEN\tREADY\n")
	for _, c := range st.Clients {
		seen := c.Age.Round(time.Second).String() + " ago"
		ready := "READY"
		switch {
		case c.Gone:
			seen += ", gone"
			ready = "gone"
		case c.Late:
			ready = "crashed, or cut off"
		case c.Trouble != "":
			ready = "NO: " + c.Trouble
		case st.Phase != migrate.Mirroring && st.Phase != migrate.Reversed:
			ready = "-"
		}
		if c.ByClock {
			seen += " (by its clock)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", c.Heartbeat, cmp.Or(c.Version, "-"), cmp.Or(c.Primary, "-"), cmp.Or(c.Mirror, "-"),
			c.Backlog, c.Failed, c.Waiting, strings.Join(c.Stores, ", "), seen, ready)
	}
	_ = w.Flush() // it can only fail to write to stdout
}
