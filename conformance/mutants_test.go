package conformance

import (
	"context"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// mutant is a store whose clients break one rule in one way.
type mutant struct {
	name string // what it does wrong
	rule string // what that breaks

	// caught lists the cases that fail, one of them at least of that rule. The
	// suite is run for these; with POLYKV_SOAK set it is run whole, and the log
	// tells which cases failed.
	caught string

	harness Harness
}

func mutants() []mutant {
	return slices.Concat(
		keyMutants(), availabilityMutants(), readMutants(), deleteMutants(),
		atomicityMutants(), decisionMutants(), callbackMutants(), contentionMutants(), cancelMutants(),
		unknownMutants(), valueMutants(), fullMutants(),
		watchStartMutants(), watchQueueMutants(), watchStateMutants(), watchEndMutants(), watchFaultMutants(), watchEventMutants(),
		closeMutants(), sharingMutants(), extraMutants(), leftMutants(), guardMutants(), versionMutants(), viewMutants(), leaseMutants(), driverMutants(), resumeMutants(), followMutants(),
	)
}

// shortly is the patience with mutants: what never comes is waited for in vain.
const shortly = time.Second

// TestMutants wants the suite to fail every broken client, by the right rule.
func TestMutants(t *testing.T) {
	cases := map[string]testCase{}
	for _, c := range table() {
		cases[c.id()] = c
	}
	slots := make(chan struct{}, 32)
	var all sync.WaitGroup
	for _, m := range mutants() {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(m.rule+"/"+m.name, func(t *testing.T) { m.mustBeCaught(t, cases) })
		})
	}
	all.Wait()
}

func (m mutant) mustBeCaught(t *testing.T, cases map[string]testCase) {
	h := m.harness.withDefaults()
	h.Patience = shortly
	if os.Getenv("POLYKV_SOAK") != "" {
		t.Logf("cases that fail: %s", strings.Join(m.failing(t, h), " "))
	}
	byRule := false
	for _, id := range strings.Fields(m.caught) {
		c, ok := cases[id]
		if !ok {
			t.Fatalf("there is no case %q", id)
		}
		// What goes wrong only if goroutines meet gets three chances to.
		caught := false
		for range 3 {
			caught = caught || h.runCase(c).failed()
		}
		if !caught {
			t.Errorf("case %s does not catch a client that is wrong: %s", id, m.name)
		}
		byRule = byRule || c.rule == m.rule
	}
	if !byRule {
		t.Errorf("no case of rule %s is said to catch it", m.rule)
	}
}

// failing runs the whole suite and returns the cases that fail.
func (m mutant) failing(t *testing.T, h Harness) []string {
	offered, err := h.offered()
	if err != nil {
		t.Fatal(err)
	}
	run, _ := h.selected(offered)
	failed := make([]bool, len(run))
	slots := make(chan struct{}, h.Parallel)
	var all sync.WaitGroup
	for i, c := range run {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			failed[i] = h.runCase(c).failed()
		})
	}
	all.Wait()
	var ids []string
	for i, c := range run {
		if failed[i] {
			ids = append(ids, c.id())
		}
	}
	return ids
}

// TestEveryCaseCatchesOne wants each case of the suite to catch a broken
// client: one that can't fail is worth nothing.
func TestEveryCaseCatchesOne(t *testing.T) {
	caught := map[string]bool{}
	for _, m := range mutants() {
		for _, id := range strings.Fields(m.caught) {
			caught[id] = true
		}
	}
	for _, c := range table() {
		why, excepted := uncaught()[c.id()]
		switch {
		case caught[c.id()] && excepted:
			t.Errorf("%s catches a broken client and is listed as one that can't", c.id())
		case !caught[c.id()] && !excepted:
			t.Errorf("%s catches no broken client", c.id())
		case excepted && why == "":
			t.Errorf("%s is excepted without a reason", c.id())
		}
	}
}

// uncaught lists the cases that no client can be broken for, and why.
func uncaught() map[string]string {
	return map[string]string{
		"K3-prefix-valid":              "it checks kv.Prefix itself, which asks no client about its prefix",
		"Entries-left-amid-compaction": "the witness of what a loop could be told late hears nothing of a compaction that its session survives",
		"E5-closed":                    "it checks kv.Lease itself, which asks no store whether it is closed",
		"Guarded-fence-refused":        "it checks kv.Fenced itself, which goes by what LimitsOf says",
		"WithCodec-no-codec":           "it checks kv.WithCodec itself, which asks no client about no codec",
	}
}

type casFunc = func(in any) (out any, retry bool, err error)

// broken is a client that does what its functions say, and what the client
// inside does where there is none.
type broken struct {
	kv.Forward
	get         func(ctx context.Context, key string) (any, error)
	list        func(ctx context.Context, prefix string) ([]string, error)
	delete      func(ctx context.Context, key string) error
	cas         func(ctx context.Context, key string, f casFunc) error
	values      func(ctx context.Context, r kv.Range, f func(key string, value any) bool) // both watches of values
	close       func() error
	watch       func(ctx context.Context, r kv.Range, f func(kv.Event) bool) error
	entries     func(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error]
	ping        func(ctx context.Context) error
	getGuarded  func(ctx context.Context, key string, g ...kv.Guard) (any, error)
	casGuarded  func(ctx context.Context, key string, f casFunc, g ...kv.Guard) error
	delGuarded  func(ctx context.Context, key string, g ...kv.Guard) error
	getVersion  func(ctx context.Context, key string, g ...kv.Guard) (any, kv.Version, error)
	swapVersion func(ctx context.Context, key string, prev kv.Version, value any, g ...kv.Guard) (kv.Version, error)
	raw         func() (kv.Client, error)
	limits      func() (kv.Limits, error)
	withCodec   func(cdc codec.Codec) (kv.Client, error)
	consistent  func() bool
}

func (b *broken) WithCodec(cdc codec.Codec) (kv.Client, error) {
	if b.withCodec != nil {
		return b.withCodec(cdc)
	}
	return b.Forward.WithCodec(cdc)
}

func (b *broken) Linearizable() bool {
	if b.consistent != nil {
		return b.consistent()
	}
	return b.Forward.Linearizable()
}

func (b *broken) Get(ctx context.Context, key string) (any, error) {
	if b.get != nil {
		return b.get(ctx, key)
	}
	return b.Forward.Get(ctx, key)
}

func (b *broken) List(ctx context.Context, prefix string) ([]string, error) {
	if b.list != nil {
		return b.list(ctx, prefix)
	}
	return b.Forward.List(ctx, prefix)
}

func (b *broken) Delete(ctx context.Context, key string) error {
	if b.delete != nil {
		return b.delete(ctx, key)
	}
	return b.Forward.Delete(ctx, key)
}

func (b *broken) CAS(ctx context.Context, key string, f casFunc) error {
	if b.cas != nil {
		return b.cas(ctx, key, f)
	}
	return b.Forward.CAS(ctx, key, f)
}

func (b *broken) WatchKey(ctx context.Context, key string, f func(any) bool) {
	if b.values != nil {
		b.values(ctx, kv.KeyRange(key), func(_ string, value any) bool { return f(value) })
		return
	}
	b.Forward.WatchKey(ctx, key, f)
}

func (b *broken) WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool) {
	if b.values != nil {
		b.values(ctx, kv.PrefixRange(prefix), f)
		return
	}
	b.Forward.WatchPrefix(ctx, prefix, f)
}

// inside is the sound watch of values of the client inside.
func (b *broken) inside(ctx context.Context, r kv.Range, f func(string, any) bool) {
	if r.IsPrefix {
		b.Forward.WatchPrefix(ctx, r.Key, f)
	} else {
		b.Forward.WatchKey(ctx, r.Key, func(value any) bool { return f(r.Key, value) })
	}
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close()
	}
	return b.Forward.Close()
}

func (b *broken) Watch(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
	if b.watch != nil {
		return b.watch(ctx, r, f)
	}
	return b.Forward.Watch(ctx, r, f)
}

func (b *broken) Entries(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
	if b.entries != nil {
		return b.entries(ctx, prefix)
	}
	return b.Forward.Entries(ctx, prefix)
}

func (b *broken) Ping(ctx context.Context) error {
	if b.ping != nil {
		return b.ping(ctx)
	}
	return b.Forward.Ping(ctx)
}

func (b *broken) GetGuarded(ctx context.Context, key string, g ...kv.Guard) (any, error) {
	if b.getGuarded != nil {
		return b.getGuarded(ctx, key, g...)
	}
	return b.Forward.GetGuarded(ctx, key, g...)
}

func (b *broken) CASGuarded(ctx context.Context, key string, f casFunc, g ...kv.Guard) error {
	if b.casGuarded != nil {
		return b.casGuarded(ctx, key, f, g...)
	}
	return b.Forward.CASGuarded(ctx, key, f, g...)
}

func (b *broken) DeleteGuarded(ctx context.Context, key string, g ...kv.Guard) error {
	if b.delGuarded != nil {
		return b.delGuarded(ctx, key, g...)
	}
	return b.Forward.DeleteGuarded(ctx, key, g...)
}

func (b *broken) GetVersion(ctx context.Context, key string, g ...kv.Guard) (any, kv.Version, error) {
	if b.getVersion != nil {
		return b.getVersion(ctx, key, g...)
	}
	return b.Forward.GetVersion(ctx, key, g...)
}

func (b *broken) SwapVersion(ctx context.Context, key string, prev kv.Version, value any, g ...kv.Guard) (kv.Version, error) {
	if b.swapVersion != nil {
		return b.swapVersion(ctx, key, prev, value, g...)
	}
	return b.Forward.SwapVersion(ctx, key, prev, value, g...)
}

func (b *broken) Raw() (kv.Client, error) {
	if b.raw != nil {
		return b.raw()
	}
	return b.Forward.Raw()
}

func (b *broken) Limits() (kv.Limits, error) {
	if b.limits != nil {
		return b.limits()
	}
	return b.Forward.Limits()
}
