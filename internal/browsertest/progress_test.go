package browsertest_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/browsertest"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/progress"
)

// hostile is what anybody who may write to a store can put on a page.
const hostile = `<script>document.title="owned"</script>/<img src="/steal">"'--><a href="javascript:1">`

// status is a client that is in one state for ever.
type status multi.Status

func (s status) Status() multi.Status { return multi.Status(s) }

// migrating is the state of a client amid a migration that goes badly.
func migrating(t *testing.T) status {
	t.Helper()
	at := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	s := status{
		At: at, Phase: multi.PhaseMirroring, Coordinated: true, Primary: "old", Mirror: "new", Owner: hostile, Owns: true,
		Records: []multi.Record{
			{Store: "old", State: "primary", Epoch: 3, Migration: hostile, Version: 17, Known: true},
			{Store: "new", State: "standby", Epoch: 2, Migration: hostile, Version: 21, Known: true, Error: "permission denied"},
		},
		Mirrors: []multi.MirrorStatus{
			{Store: "old"},
			{Store: "new", Open: true, Mirrored: 12345, Failed: 7, Late: 3, Backlog: 42, Oldest: 90 * time.Second, Error: "connection refused"},
		},
		Verify: &multi.Comparison{
			Kind: "verify", From: "old", To: "new", Started: at, Ended: at.Add(time.Second),
			Totals: multi.Totals{Keys: 10000, Bytes: 5 << 20, Different: 150},
			Differences: []multi.Difference{
				{Key: hostile, Reason: "missing"},
				{Key: strings.Repeat("k", 512), Reason: "unreadable", Error: hostile},
			},
		},
		Problem: "no store is primary: " + hostile, Waiting: 1234, Name: "web", Host: "host1", PID: 7, Version: "v1.2.3",
	}
	for i := range 100 {
		s.Samples = append(s.Samples, multi.Sample{At: at.Add(time.Duration(i) * 2 * time.Second), Backlog: i * (100 - i)})
	}
	sum := `{"size":2048,"sha256":"0123456789ab"}`
	if err := json.Unmarshal([]byte(sum), &s.Verify.Differences[0].From); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestProgressPage(t *testing.T) {
	p := browsertest.Open(t)
	server := httptest.NewServer(progress.Handler(migrating(t)))
	t.Cleanup(server.Close)
	for _, screen := range []browsertest.Screen{browsertest.Desktop, browsertest.Phone, browsertest.PhoneDark} {
		p.Load(server.URL+"/", screen)
		checkPage(t, p, screen, page{title: "polykv: mirroring and migration", texts: map[string]string{
			"#phase":        "mirroring One store is primary, and what is written to it is mirrored into the other one.",
			"#primary":      "old",
			"#mirror":       "new",
			"#owner":        hostile + ", this process",
			"#problem":      "no store is primary: " + hostile,
			"figcaption":    "Keys waiting to be mirrored: now 99, at most 2500 in the last 3m18s",
			"#verdict .bad": "150 of 10,000 keys differ.",
			"caption":       "Keys that differ: the first 2",
			"tbody code":    hostile,
			`section[aria-labelledby=mirroring] tr:nth-child(2) td[data-label="Mirrored"]`: "12,345",
			`section[aria-labelledby=mirroring] tr:nth-child(2) td[data-label="Oldest"]`:   "1m30s",
			`section[aria-labelledby=records] p.error`:                                     "permission denied",
			`section[aria-labelledby=mirroring] p.error`:                                   "connection refused",
			"#waiting": "1,234",
			"#self":    "web, host1, process 7, polykv v1.2.3",
			`section[aria-labelledby=verify] tr td[data-label="old"]`: "2.0 KiB, 0123456789ab",
			`section[aria-labelledby=verify] tr td[data-label="new"]`: "absent",
		}})
	}
	screenshot(t, p, "progress.png")
}
