package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// A fleet is several processes that use one store and are moved to another one
// while they write.
type fleet struct {
	t         *testing.T
	options   fleetOptions
	seed      uint64
	begun     int64 // see monotonic
	clusters  [2]*testserver.Cluster
	stores    [2]fleetStore
	histories map[string]*history
	counters  map[string]*counter

	mu          sync.Mutex // of what follows; held while members come and go
	members     []*fleetProcess
	launched    int
	coordinated bool

	murders    sync.WaitGroup
	enough     chan struct{} // closed when there shall be no more of them
	endMurders func()

	kills, commandKills int
	told, updates       atomic.Int64
	unknown, refused    atomic.Int64
	problems            atomic.Int64
}

// fleetOptions say what fleet there is.
type fleetOptions struct {
	members int // at any time
	old     int // keys that existed before and that nobody writes
	oldSize int // bytes of their values, at least

	// multi are options of the coordinated members, as YAML has them.
	multi string

	pace time.Duration // see fleetChild

	// locked: servers and clients show certificates, and the clients' token and
	// user may do no more than docs/operations.md asks for.
	locked bool
}

// TestFleetMigration moves a fleet from one kind of server to the other, back,
// and over again, while its processes are killed and started, the commands of
// the migration are killed at each of their steps, and both servers die once.
// Nothing may be lost or happen twice.
//
// POLYKV_SOAK=1 makes each phase ten times as long, and copies 10,000 keys.
func TestFleetMigration(t *testing.T) {
	for _, c := range []struct{ source, target backend }{{consulBackend, etcdBackend}, {etcdBackend, consulBackend}} {
		t.Run(c.source.name+" to "+c.target.name, func(t *testing.T) {
			seed, _ := firstSeed(t)
			o := fleetOptions{members: 4, old: 3_000, multi: fleetPatient} // several pages
			if os.Getenv("POLYKV_SOAK") != "" {
				o.old = 10_000
			}
			f := newFleet(t, seed, o, c.source, c.target)
			f.migrate()
			f.judge()
		})
	}
}

func newFleet(t *testing.T, seed uint64, o fleetOptions, source, target backend) *fleet {
	t.Helper()
	f := &fleet{
		t: t, options: o, seed: seed, begun: monotonic(), enough: make(chan struct{}),
		histories: map[string]*history{}, counters: map[string]*counter{},
	}
	f.endMurders = sync.OnceFunc(func() { close(f.enough) })
	t.Logf("seed %d", seed)
	for i, b := range []backend{source, target} {
		f.clusters[i] = b.start(t, testserver.Options{NoFsync: true, Auth: o.locked, ClientAuth: o.locked})
		f.stores[i] = fleetStore{Name: b.name, Section: f.section(b, f.clusters[i])}
	}
	for n := range fleetRegisters {
		key := fleetKey(fleetRegisterPrefix, n)
		f.histories[key] = &history{key: key}
	}
	for n := range fleetCounters {
		key := fleetKey(fleetCounterPrefix, n)
		f.counters[key] = &counter{key: key}
	}
	f.fill()
	t.Cleanup(func() {
		f.spare()
		for _, p := range f.members {
			p.kill()
		}
	})
	return f
}

// section is the configuration of a client of one server.
func (f *fleet) section(b backend, c *testserver.Cluster) string {
	f.t.Helper()
	const prefix = "app/"
	switch {
	case !f.options.locked:
		return c.Section(prefix)
	case b.name == consulBackend.name:
		token, err := c.AddToken(f.t.Context(), `key_prefix "`+prefix+`" { policy = "write" }`)
		f.must(err)
		return c.Section(prefix, "token: "+token)
	}
	f.must(c.AddUser(f.t.Context(), "app", "secret", testserver.Permission{Prefix: prefix, Read: true, Write: true}))
	return c.Section(prefix, "username: app", "password: secret")
}

func (f *fleet) at(monotonic int64) time.Duration { return time.Duration(monotonic - f.begun) }
func (f *fleet) now() time.Duration               { return f.at(monotonic()) }

func (f *fleet) fail(format string, args ...any) {
	if f.problems.Add(1) <= 20 {
		f.t.Errorf("seed %d: "+format, append([]any{f.seed}, args...)...)
	}
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatalf("seed %d: %v", f.seed, err)
	}
}

// before is the value of a key that existed before.
func (f *fleet) before(key string) string {
	text := "before " + key
	return text + strings.Repeat(".", max(0, f.options.oldSize-len(text)))
}

// fill writes the keys that existed before.
func (f *fleet) fill() {
	f.t.Helper()
	c, err := f.stores[0].open()
	f.must(err)
	defer func() { f.must(c.Close()) }()
	keys := make(chan int)
	var writers sync.WaitGroup
	for range 32 {
		writers.Go(func() {
			for n := range keys {
				key := fleetKey(fleetOldPrefix, n)
				if err := c.CAS(f.t.Context(), key, set(f.before(key))); err != nil {
					f.fail("%v", err)
				}
			}
		})
	}
	for n := range f.options.old {
		keys <- n
	}
	close(keys)
	writers.Wait()
}

// happened takes in how an operation ended that began at some moment.
func (f *fleet) happened(p *fleetProcess, l fleetLine, began int64) {
	switch l.Fate {
	case done:
		f.updates.Add(1)
	case maybe:
		f.unknown.Add(1)
	default:
		f.refused.Add(1)
		f.t.Logf("%s: %s of %q: %s", p.name, l.Kind, l.Key, l.Err)
	}
	if c := f.counters[l.Key]; c != nil {
		c.tell(l.Fate)
		return
	}
	id := 0
	_, _ = fmt.Sscanf(p.name, "p%d", &id)
	o := op{kind: l.Kind, saw: l.Saw, wrote: l.Wrote, fate: l.Fate, client: id, call: f.at(began), ret: f.at(l.At)}
	if l.Err != "" {
		o.err = fmt.Errorf("%s", l.Err)
	}
	if l.At == 0 { // it was killed
		o.ret = f.now()
	}
	f.histories[l.Key].add(o)
}

// exchange kills a member, or ends it in good order, and starts another one.
func (f *fleet) exchange(i int, kill bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if kill {
		f.members[i].kill()
		f.kills++
	} else if err := f.members[i].stop(); err != nil {
		f.fail("%v", err)
	}
	p, err := f.launch(f.coordinated)
	if err != nil {
		f.fail("%v", err)
		return
	}
	f.members[i] = p
}

// murder kills members now and then until spare is called.
func (f *fleet) murder() {
	rnd := rand.New(rand.NewPCG(f.seed, 1))
	for {
		select {
		case <-f.enough:
			return
		case <-time.After(time.Second + time.Duration(rnd.Int64N(int64(2*time.Second)))):
			f.exchange(rnd.IntN(f.options.members), true)
		}
	}
}

// spare ends the murders.
func (f *fleet) spare() {
	f.endMurders()
	f.murders.Wait()
}

// phase lets the fleet work for a while.
func (f *fleet) phase(name string, d time.Duration) {
	if os.Getenv("POLYKV_SOAK") != "" {
		d *= 10
	}
	f.t.Logf("%8v %s", f.now().Round(time.Millisecond), name)
	time.Sleep(d) // the fleet's time to work; nothing is concluded from it
}

// killed runs a command once for each death, and then to its end.
func (f *fleet) killed(command string, deaths ...fleetDeath) *migrate.Result {
	f.t.Helper()
	for _, d := range deaths {
		_, err := f.run(command, d)
		f.must(err)
		f.commandKills++
	}
	result, err := f.run(command, fleetDeath{})
	f.must(err)
	return result
}

// crash kills a server and starts it again.
func (f *fleet) crash(i int) {
	f.t.Helper()
	f.must(f.clusters[i].Kill())
	f.must(f.clusters[i].Restart())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.must(f.clusters[i].WaitReady(ctx))
}

// muster starts the members, which use the source alone.
func (f *fleet) muster() {
	f.t.Helper()
	for range f.options.members {
		p, err := f.launch(false)
		f.must(err)
		f.members = append(f.members, p)
	}
}

// coordinate rolls the coordinated configuration out; half of the members are
// killed for it.
func (f *fleet) coordinate() {
	f.mu.Lock()
	f.coordinated = true
	f.mu.Unlock()
	for i := range f.options.members {
		f.exchange(i, i%2 == 0)
	}
}

// migrate is the whole migration, in the order of docs/migration.md.
func (f *fleet) migrate() {
	f.t.Helper()
	f.muster()
	f.phase("all use the source alone", 2*time.Second)
	f.killed("start", fleetDeath{Changes: 1})

	f.coordinate()
	f.murders.Go(f.murder)
	f.phase("all are coordinated", time.Second)
	f.killed("copy", fleetDeath{Work: migrate.Copying})
	f.phase("the target dies", time.Second)
	f.crash(1)
	f.phase("mirroring", 2*time.Second)

	// Each run goes on from where the one before was killed: sealed, filling,
	// completing, sealed again, flipped.
	f.killed("cutover",
		fleetDeath{Changes: 1}, fleetDeath{Changes: 2}, fleetDeath{Work: migrate.Completing},
		fleetDeath{Changes: 1}, fleetDeath{Changes: 2})
	f.phase("the target leads; the source dies", time.Second)
	f.crash(0)
	f.phase("mirroring back", 2*time.Second)
	back := f.killed("rollback")
	f.phase("the source leads again", 2*time.Second)
	over := f.killed("cutover")
	f.phase("the target leads for good", 2*time.Second)

	f.spare()
	f.t.Logf("write pauses: %v back, %v over again", back.Pause.Round(time.Millisecond), over.Pause.Round(time.Millisecond))
}

// twice runs a command in two processes at once.
func (f *fleet) twice(command string) {
	f.t.Helper()
	var runs sync.WaitGroup
	for range 2 {
		runs.Go(func() {
			if _, err := f.run(command, fleetDeath{}); err != nil {
				f.fail("%v", err)
			}
		})
	}
	runs.Wait()
}

// judge ends the fleet's work and compares what it was told with what there is.
func (f *fleet) judge() {
	f.t.Helper()
	store := f.settle()
	f.equal()
	_, err := f.run("finish", fleetDeath{Work: migrate.Comparing})
	f.must(err)
	f.commandKills++
	f.twice("finish")
	f.dismiss()
	f.report(store)
}

// settle ends the fleet's work and returns what the target, which leads, holds,
// once the watches of all members show it.
func (f *fleet) settle() (store map[string]string) {
	f.t.Helper()
	for _, p := range f.members {
		f.must(p.say("quiet"))
	}
	for _, p := range f.members {
		select {
		case <-p.quiet:
		case <-p.ended:
			f.t.Fatalf("seed %d: member %s ended with %v: %s", f.seed, p.name, p.err, p.notes.Bytes())
		case <-time.After(patience):
			f.t.Fatalf("seed %d: member %s still has something under way", f.seed, p.name)
		}
	}
	store = f.contents()
	eventually(f.t, "the watches of all members show the store as it is", func() bool {
		for _, p := range f.members {
			if !p.sees(store) {
				return false
			}
		}
		return true
	})
	return store
}

// dismiss ends the members in good order.
func (f *fleet) dismiss() {
	f.t.Helper()
	for _, p := range f.members {
		if err := p.say("stop"); err != nil {
			f.fail("%v", err)
		}
		<-p.ended
		if p.err != nil {
			f.fail("member %s: %v: %s", p.name, p.err, p.notes.Bytes())
		}
	}
}

// report compares what the members were told with what the store holds.
func (f *fleet) report(store map[string]string) {
	f.t.Helper()
	checked := f.check(store)
	f.t.Logf("%d operations done, %d perhaps, %d not; %d states told by watches, %d checked; %d members and %d commands killed",
		f.updates.Load(), f.unknown.Load(), f.refused.Load(), f.told.Load(), checked, f.kills, f.commandKills)
	if f.updates.Load() < 1000 || f.told.Load() < 1000 {
		f.fail("the fleet has hardly worked")
	}
}

// contents returns what is in the target, which leads, besides the old keys,
// all of which must be as they were.
func (f *fleet) contents() map[string]string {
	f.t.Helper()
	c, err := f.stores[1].open()
	f.must(err)
	defer func() { f.must(c.Close()) }()
	store, old := map[string]string{}, 0
	for e, err := range kv.Entries(f.t.Context(), c, "") {
		f.must(err)
		value, _ := e.Value.(string)
		if !strings.HasPrefix(e.Key, fleetOldPrefix) {
			store[e.Key] = value
			continue
		}
		if old++; value != f.before(e.Key) {
			f.fail("%q is not as it was, it has %d bytes", e.Key, len(value))
		}
	}
	if old != f.options.old {
		f.fail("%d keys of before are left of %d", old, f.options.old)
	}
	return store
}

// equal wants both stores to be equal, once what killed members did not mirror
// is repaired.
func (f *fleet) equal() {
	f.t.Helper()
	f.killed("copy")
	c := fleetChild{Stores: f.stores}
	m, closeStores, err := c.migration(migrate.Options{})
	f.must(err)
	defer closeStores()
	result, err := m.Verify(f.t.Context(), migrate.VerifyOptions{Found: func(d migrate.Difference) error {
		f.fail("the stores differ: %+v", d)
		return nil
	}})
	f.must(err)
	if result.Keys < f.options.old {
		f.fail("only %d keys were compared", result.Keys)
	}
}

// check wants no update lost and none made twice, and every history to be
// possible.
func (f *fleet) check(store map[string]string) (checked int) {
	f.t.Helper()
	for _, c := range f.counters {
		var got any
		if value, ok := store[c.key]; ok {
			got = value
		}
		if err := c.check(got); err != nil {
			f.fail("%v", err)
		}
	}
	end := f.now()
	for _, h := range f.histories {
		h.add(op{kind: opGet, saw: store[h.key], fate: done, call: end, ret: end + 1})
		n, err := h.check(end+2, patience)
		checked += n
		if err != nil {
			f.fail("%v", err)
		}
	}
	return checked
}
