package metamorphic

import (
	"cmp"
	"context"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/inmemory"
)

var (
	etcdServer   = servertest.SharedEtcd(testserver.Options{NoFsync: true})
	consulServer = servertest.SharedConsul(testserver.Options{})
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(servertest.Main(m, etcdServer, consulServer)) }

// tunings are options that must make no difference.
var tunings = []struct {
	name   string
	prefix string
	tune   func(*kv.Options)
}{
	{name: "as it comes"},
	{name: "under a prefix", prefix: "name/space/"},
	{name: "nothing is remembered", tune: func(o *kv.Options) { o.RememberEntries = -1 }},
	{name: "little is remembered", tune: func(o *kv.Options) { o.RememberEntries = 1 }},
	{name: "small pages", tune: func(o *kv.Options) { o.ScanPage = 1 }},
	{name: "no watch shares", tune: func(o *kv.Options) { o.ShareBytes = -1 }},
	{name: "callbacks hold up nobody", tune: func(o *kv.Options) { o.SlowCallback = time.Nanosecond }},
}

// inMemory is a variant whose store begins empty each time that it is made.
func inMemory() variant { return variant{name: "memory", open: opener(inmemory.NewStore())} }

func opener(s *inmemory.Store) func() (driver.Store, error) {
	return func() (driver.Store, error) { return s.Open(), nil }
}

// bubble carries out a plan in virtual time.
func bubble(t *testing.T, make func() variant, plan []step) (o outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var err error
		if o, err = make().carryOut(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
	})
	return o
}

// number is what a variable of the environment says, or else.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// seeds are those to play: POLYKV_SEED alone, or some, far more with POLYKV_SOAK.
func seeds(t *testing.T, count, soak int) (all []uint64) {
	t.Helper()
	if one := number(t, "POLYKV_SEED", 0); one != 0 {
		return []uint64{uint64(one)} //nolint:gosec // of a seed every bit pattern will do
	}
	if os.Getenv("POLYKV_SOAK") != "" {
		count = soak
	}
	for i := range count {
		all = append(all, uint64(i)+1) //nolint:gosec // not negative
	}
	return all
}

// differing compares a variant with the plain one, and shrinks a plan on which they differ.
func differing(t *testing.T, plan []step, carryOut func([]step) outcome) {
	t.Helper()
	diff := func(p []step) string { return bubble(t, inMemory, p).differs(carryOut(p), p) }
	problem := diff(plan)
	if problem == "" {
		return
	}
	t.Error(problem)
	plan = shrink(plan, func(p []step) bool { return diff(p) != "" })
	t.Errorf("with %d steps: %s\n%v", len(plan), diff(plan), plan)
}

// TestVariantsInMemory tunes clients of the store in memory, in virtual time. To
// see a seed again: POLYKV_SEED=n go test -run TestVariantsInMemory ./internal/metamorphic
func TestVariantsInMemory(t *testing.T) {
	for _, seed := range seeds(t, 10, 5000) {
		plan := draw(seed, 60)
		for _, tuned := range tunings {
			made := func() variant {
				v := inMemory()
				v.prefix, v.tune = tuned.prefix, tuned.tune
				return v
			}
			differing(t, plan, func(p []step) outcome { return bubble(t, made, p) })
			if t.Failed() {
				t.Fatalf("seed %d, %s", seed, tuned.name)
			}
		}
	}
}

// TestVariantsOnServers compares etcd and Consul with the store in memory.
func TestVariantsOnServers(t *testing.T) {
	etcdConfig, consulConfig := etcd.DefaultConfig(), consul.DefaultConfig()
	etcdConfig.Endpoints, consulConfig.Address = etcdServer.Get(t).Endpoints(), consulServer.Get(t).URLs()[0]
	for _, v := range []variant{
		{name: "etcd", open: func() (driver.Store, error) { return etcd.Open(etcdConfig, nil) }},
		{name: "consul", open: func() (driver.Store, error) { return consul.Open(consulConfig, nil) }},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for i, seed := range seeds(t, 2, 200) {
				v.tune = tunings[(i*2)%len(tunings)].tune
				differing(t, draw(seed, 40), func(p []step) outcome {
					v.prefix = drivertest.Unique(t) + "/"
					o, err := v.carryOut(context.Background(), p)
					if err != nil {
						t.Fatal(err)
					}
					return o
				})
				if t.Failed() {
					t.Fatalf("seed %d, %s", seed, tunings[(i*2)%len(tunings)].name)
				}
			}
		})
	}
}
