package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/multi/migrate"
)

func TestKeyProgressBarOnATerminal(t *testing.T) {
	var out bytes.Buffer
	p := newKeyProgress(&out, true)
	p.throttle = 0
	p.count = func(string) int { return 1000 }
	for keys := 0; keys <= 1200; keys += 400 { // more than were counted
		p.show(migrate.Progress{Work: migrate.Copying, Totals: migrate.Totals{Keys: keys, Copied: keys / 2}})
	}
	p.clear()
	for _, want := range []string{"copying   , 200 copied", "(400/1001", "keys/s", "(1200/1201"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %q", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\n") || !strings.HasSuffix(out.String(), "\r") {
		t.Errorf("the bar doesn't stay in its line, or isn't taken away: %q", out.String())
	}
}

func TestKeyProgressLinesElsewhere(t *testing.T) {
	var out bytes.Buffer
	p := newKeyProgress(&out, false)
	p.count = func(prefix string) int { return 10_000 }
	now := time.Unix(0, 0)
	p.now = func() time.Time { return now }
	for _, keys := range []int{0, 1000, 2000, 3000, 12_000} {
		p.show(migrate.Progress{Work: migrate.Comparing, Totals: migrate.Totals{Keys: keys}})
		now = now.Add(600 * time.Millisecond)
	}
	p.show(migrate.Progress{Work: migrate.Completing, Totals: migrate.Totals{Keys: 100}})
	now = now.Add(2 * time.Second)
	p.show(migrate.Progress{Work: migrate.Completing, Totals: migrate.Totals{Keys: 3000, Copied: 7, Deleted: 1, Failed: 2}})
	want := "comparing: 2,000 of 10,000 keys, 1667/s, 5s left\n" +
		"comparing: 12,000 keys, 5000/s\n" +
		"completing: 3,000 of 12,000 keys, 1500/s, 6s left, 7 copied, 1 deleted, 2 failed\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
