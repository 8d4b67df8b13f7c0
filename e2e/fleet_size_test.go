package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/multi/migrate"
)

// A fleet of six processes with many megabytes below its prefix is moved and
// moved back. No command takes more memory
// than docs/migration.md says, however much the stores hold, and writes wait for
// less than the longest pause.
//
// POLYKV_SOAK=1 makes it 20,000 keys and 200 MiB with every option at its default.
// The fleet makes 100 writes a second then, since a machine that is busy with them
// may not compare that much within the longest pause.
func TestFleetOfSize(t *testing.T) {
	o := fleetOptions{members: 6, old: 2_000, oldSize: 10 << 10, multi: fleetPatient, pace: 3 * fleetPace}
	pause := []string{"--max-pause=4m"} // a busy machine may compare them slowly
	if os.Getenv("POLYKV_SOAK") != "" {
		o.old, o.multi, o.pace, pause = 20_000, "", 10*fleetPace, nil
	}
	seed, _ := firstSeed(t)
	f := newFleet(t, seed, o, consulBackend, etcdBackend)
	f.muster()
	f.measured("migrate", "plan")
	f.measured("migrate", "start")
	f.coordinate()
	f.phase("all are coordinated", time.Second)
	f.measured("copy")
	eventually(t, "both stores are equal", func() bool {
		r := f.measure("verify")
		if r.code != 0 {
			f.does("", "copy", "--delete") // of what killed members did not mirror
		}
		return r.code == 0
	})
	for _, command := range []string{"cutover", "rollback", "cutover"} {
		f.moved(command, pause...)
	}
	for i, c := range f.clusters {
		t.Logf("%s: %d MiB resident", f.stores[i].Name, residentPeak(c.Pid(0))>>20)
	}
	f.judge()
}

// fleetHeap is what a command may take, whatever the stores hold.
const fleetHeap = 160 << 20

// measured runs a command that must succeed, within its memory.
func (f *fleet) measured(args ...string) fleetRun {
	f.t.Helper()
	r := f.measure(args...)
	if r.code != 0 {
		f.t.Fatalf("polykv %v: %v", args, r)
	}
	return r
}

// measure is measured for a command that may be refused.
func (f *fleet) measure(args ...string) fleetRun {
	f.t.Helper()
	began := time.Now()
	r := f.polykv(args...)
	f.t.Logf("polykv %v: %v, %v", args, time.Since(began).Round(time.Millisecond), r.memory)
	if r.memory.Heap > fleetHeap {
		f.fail("polykv %v took %v", args, r.memory)
	}
	return r
}

// moved runs a cutover or roll-back of six clients, as soon as they are ready.
func (f *fleet) moved(command string, more ...string) {
	f.t.Helper()
	var told struct{ Result migrate.Result }
	eventually(f.t, "the fleet is ready for the "+command, func() bool {
		r := f.measure(append([]string{"migrate", command, "--json", "--expect-clients=6"}, more...)...)
		if r.code != 0 && !strings.Contains(r.stderr, "not ready") {
			f.t.Fatalf("%s: %v", command, r)
		}
		f.must(json.Unmarshal([]byte(r.stdout), &told))
		if r.code != 0 {
			f.t.Log(r.stderr)
		}
		return r.code == 0
	})
	if told.Result.Pause <= 0 {
		f.fail("%s: %+v", command, told.Result)
	}
	f.t.Logf("%s: writes waited for %v, predicted were %v", command, told.Result.Pause.Round(time.Millisecond), told.Result.Predicted.Round(time.Millisecond))
}
