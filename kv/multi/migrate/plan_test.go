package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// checks tells the checks of a plan, as in "old/reachable new/empty!", those that are
// not good with an exclamation mark.
func (p Plan) checks() string {
	var texts []string
	for _, c := range p.Checks {
		text := c.Store + "/" + c.Name
		if !c.OK {
			text += "!"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

func (p Plan) detail(store, name string) string {
	for _, c := range p.Checks {
		if c.Store == store && c.Name == name {
			return c.Detail
		}
	}
	return ""
}

// What a plan looks at, and how it judges it, where the migration stands.
func TestPlanLooksAtTheRecords(t *testing.T) {
	const stores = "old/reachable old/guards old/permissions new/reachable new/guards new/permissions old/sizes "
	for states, c := range map[string]struct {
		checks string
		ready  bool
	}{
		"none none":       {"new/empty! old/records new/largest", false},
		"primary retired": {"new/empty! old/records new/largest", false},
		"primary none":    {"old/records new/largest", true},
		"primary standby": {"old/records new/largest", true},
		"sealed standby":  {"old/records! new/largest", false},
		"standby primary": {"old/records! new/largest", false},
		"retired primary": {"old/records! new/largest", false},
	} {
		r := newRig(t)
		r.put(0, "k", "v")
		r.put(1, "k", "v")
		r.set(states)
		p, err := r.migration(Options{}).Plan(t.Context())
		if err != nil || p.checks() != stores+c.checks || p.Ready != c.ready || p.Phase == "" {
			t.Errorf("%s: %s, ready: %v, %v", states, p.checks(), p.Ready, err)
		}
		now, _ := p.Phase.Describe("old", "new")
		if p.detail("old", "records") != now {
			t.Errorf("%s: %s", states, p.detail("old", "records"))
		}
		if empty := p.detail("new", "empty"); empty != "" && empty != `it holds 1 keys; those that store "old" doesn't have will be deleted` {
			t.Errorf("%s: %s", states, empty)
		}
		dry, err := r.migration(Options{DryRun: true, AllowKeys: true}).Plan(t.Context())
		if want := strings.NewReplacer("!", "", "old/permissions ", "", "new/permissions ", "").Replace(stores + c.checks); err != nil ||
			strings.ReplaceAll(dry.checks(), "!", "") != strings.TrimSuffix(want, " new/largest") {
			t.Errorf("%s, dry: %s, %v", states, dry.checks(), err)
		}
	}
}

// What the stores hold is counted, and told every thousand keys.
func TestPlanCounts(t *testing.T) {
	r := newRig(t)
	for i := range 1000 {
		r.put(0, fmt.Sprintf("k%03d", i), "12345")
		r.put(1, fmt.Sprintf("k%03d", i), "1")
	}
	r.put(0, "larger", "123456")
	r.put(0, "longer-key", "123456")
	var seen []int
	p, err := r.migration(Options{AllowKeys: true, Progress: func(p Progress) { seen = append(seen, p.Totals.Keys) }}).Plan(t.Context())
	if err != nil || !p.Ready || fmt.Sprint(seen) != "[1000 2000]" {
		t.Errorf("%s, %v, told of %v", p.checks(), err, seen)
	}
	want := StorePlan{Name: "old", Keys: 1002, Bytes: 9000 + 12 + 16, LongestKey: 10, LargestValue: 6, LargestAt: "larger", Foreign: []string{}}
	if fmt.Sprintf("%#v", p.Source) != fmt.Sprintf("%#v", want) {
		t.Errorf("%#v", p.Source)
	}
	if p.detail("old", "sizes") != "all 1002 keys and values are within the limits of both stores" ||
		p.detail("new", "empty") != `it holds 1000 keys; those that store "old" doesn't have will be deleted` ||
		p.detail("new", "largest") != "a guarded write of 6 bytes, as many as the largest value has, succeeds" {
		t.Errorf("%+v", p.Checks)
	}
	empty := newRig(t)
	err = empty.others[0].CAS(t.Context(), "k", func(any) (any, bool, error) { return "", false, nil })
	if p, planErr := empty.migration(Options{}).Plan(t.Context()); err != nil || planErr != nil || p.Source.LargestAt != "k" || p.detail("new", "empty") != "it holds no keys" {
		t.Errorf("an empty value: %+v, %v", p, planErr)
	}
}

// As many problems as there are, and a hundred of them by name.
func TestPlanNamesAHundredProblems(t *testing.T) {
	r := newRig(t)
	for i := range 101 {
		r.put(0, fmt.Sprintf("k%03d", i), "too large")
	}
	o := quiet
	o.MaxValueSize = 5
	tight := kv.New(r.data[1].Open(), codec.String{}, &o)
	defer tight.Close()
	m, err := New(Backend{Name: "old", Client: r.clients[0]}, Backend{Name: "new", Client: tight}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Plan(t.Context())
	if err != nil || p.Ready || len(p.Problems) != 100 || p.ProblemCount != 101 || p.detail("old", "sizes") != "101 keys can't be moved or written again" {
		t.Errorf("%+v, %v", p, err)
	}
	if p.detail("new", "largest") != "" {
		t.Error("what the target takes was tried although that is known")
	}
}

// Foreign keys are told of a store whose client counts them.
func TestPlanTellsOfForeignKeys(t *testing.T) {
	for _, keys := range []int{0, 2, 100, 101} {
		r := newRig(t)
		skipped := &Skipped{}
		for i := range keys {
			skipped.Skipped(t.Context(), fmt.Sprintf("/k%03d", i))
		}
		skipped.Skipped(t.Context(), "/k000") // which is known, if there is one
		m, err := New(Backend{Name: "old", Client: r.clients[0]}, Backend{Name: "new", Client: r.clients[1], Skipped: skipped}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.Plan(t.Context())
		n := max(keys, 1)
		want := fmt.Sprintf("%d keys break polykv's rules and are neither seen nor copied", min(n, 100))
		if n > 100 {
			want = "more than " + want
		}
		if err != nil || p.Ready || p.detail("new", "keys") != want || p.detail("old", "keys") != "" || len(p.Target.Foreign) != min(n, 100) || p.Target.Foreign[0] != "/k000" {
			t.Errorf("%d keys: %+v, %v", keys, p.Checks, err)
		}
	}
	r := newRig(t)
	m, err := New(Backend{Name: "old", Client: r.clients[0], Skipped: &Skipped{}}, Backend{Name: "new", Client: r.clients[1]}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if keys, more := (*Skipped)(nil).Keys(); len(keys) != 0 || more {
		t.Error("nobody saw a key")
	}
	if p, err := m.Plan(t.Context()); err != nil || !p.Ready || p.detail("old", "keys") != "every key obeys polykv's rules" {
		t.Errorf("%+v, %v", p.Checks, err)
	}
}

// The largest value is tried under a key as long as the longest, and under a guard.
func TestPlanTriesTheLargestValue(t *testing.T) {
	r := newRig(t)
	r.put(0, strings.Repeat("k", 100), "v")
	r.put(0, "large", strings.Repeat("v", 200))
	var mu sync.Mutex
	tried := 0
	refuse := error(nil)
	r.hooks[1].onSwap = func(s driver.Swap) error {
		mu.Lock()
		defer mu.Unlock()
		if len(s.Guards) > 0 && len(s.Key) == 100 && len(s.Value) == 200 {
			tried++
			return refuse
		}
		return nil
	}
	if p, err := r.migration(Options{}).Plan(t.Context()); err != nil || !p.Ready || tried != 1 {
		t.Errorf("%s, %v, tried %d times", p.checks(), err, tried)
	}
	refuse = driver.ErrPermission
	p, err := r.migration(Options{}).Plan(t.Context())
	if err != nil || p.Ready || p.ProblemCount != 0 || !strings.HasPrefix(p.detail("new", "largest"), `a guarded write of 200 bytes, as many as the largest value has ("large"), is refused: `) {
		t.Errorf("%+v, %v", p, err)
	}
	refuse = errFault
	p, err = r.migration(Options{}).Plan(t.Context())
	if !errors.Is(err, errFault) || p.Ready {
		t.Errorf("%+v, %v", p, err)
	}
	if left := reserved(t, r); left != "" {
		t.Errorf("the plans left %s behind", left)
	}
	// Without rights or guards there is nothing to try.
	r.hooks[1].onSwap = denied(func(string) bool { return true })
	p, err = r.migration(Options{}).Plan(t.Context())
	if err != nil || p.detail("new", "largest") != "" || !strings.HasPrefix(p.detail("new", "permissions"), `keys below ".polykv/" can't be written and removed: `) {
		t.Errorf("%+v, %v", p, err)
	}
	plain := kv.New(r.data[1].Open(), codec.String{}, &quiet)
	defer plain.Close()
	m, err := New(Backend{Name: "old", Client: r.clients[0]}, Backend{Name: "bare", Client: bare{plain}, Codec: codec.String{}}, Options{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = m.Plan(t.Context()); err != nil || p.Ready || !strings.HasPrefix(p.detail("bare", "guards"), "it can't make a write depend on another key") {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestCountIsThatOfTheLargerStore(t *testing.T) {
	r := newRig(t)
	for i := range 3 {
		r.put(0, fmt.Sprintf("a/%d", i), "v")
		r.put(1, fmt.Sprintf("b/%d", i), "v")
	}
	r.put(1, "b/3", "v")
	m := r.migration(Options{})
	for prefix, want := range map[string]int{"": 4, "a/": 3, "b/": 4, "c/": 0} {
		if n, err := m.Count(context.Background(), prefix); err != nil || n != want {
			t.Errorf("%q: %d, %v", prefix, n, err)
		}
	}
}

// Verify says what it compared, and whether that proves anything.
func TestVerifyTellsWhatItSaw(t *testing.T) {
	for states, retired := range map[string]string{"retired primary": "old", "primary retired": "new", "primary standby": "", "sealed filling": ""} {
		r := newRig(t)
		r.set(states)
		if v, err := r.migration(Options{}).Verify(t.Context(), VerifyOptions{}); err != nil || v.Retired != retired {
			t.Errorf("%s: %+v, %v", states, v, err)
		}
	}
	r := newRig(t)
	r.put(0, "a/k", "v")
	r.put(0, "b/k", "v")
	r.set("sealed filling")
	enough := errors.New("enough")
	v, err := r.migration(Options{}).Verify(t.Context(), VerifyOptions{Prefix: "a/", Found: func(d Difference) error {
		if d.Key != "a/k" {
			t.Error(d)
		}
		return enough
	}})
	wantErr(t, err, enough)
	if v.From != "old" || v.Different != 1 {
		t.Errorf("%+v", v)
	}
	r.hooks[1].onScan = func(string) { // the cutover is gone on with meanwhile
		r.hooks[1].onScan = nil
		r.do(r.again().migration(Options{}).Cutover)
	}
	if v, err := r.migration(Options{}).Verify(t.Context(), VerifyOptions{}); err != nil || v.Fenced {
		t.Errorf("%+v, %v", v, err)
	}
}

// Whose values merge says when two of them are as good as equal.
func TestValuesThatMergeMayDiffer(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "a")
	r.put(1, "k", "A")
	r.set("primary standby")
	m := r.careful(Options{AllowNoClients: true, Equal: func(a, b []byte) bool { return strings.EqualFold(string(a), string(b)) }})
	if v, err := m.Verify(t.Context(), VerifyOptions{}); err != nil || v.Different != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	r.do(m.Cutover)
	r.do(finish(m, ""))
	if r.all(1) != "k=A " {
		t.Errorf("the new store holds %s", r.all(1))
	}
}

// A plain copy is no migration's, and says so when one is begun.
func TestCopySaysWhatItMeets(t *testing.T) {
	r := newRig(t)
	r.set("sealed standby")
	_, err := r.migration(Options{}).Copy(t.Context(), CopyOptions{})
	if err == nil || !strings.HasSuffix(err.Error(), `or no migration at all: a cutover is under way: store "old" is sealed, and writes wait; run "polykv migrate cutover" to end it, or "polykv migrate abort" to undo it`) {
		t.Errorf("%v", err)
	}
	third := newRig(t)
	record := side.Record{State: side.Standby, Epoch: 1, Migration: "m", Source: "third", Target: "new"}
	if _, _, err := third.sides[1].SwapRecord(t.Context(), 0, record); err != nil {
		t.Fatal(err)
	}
	third.put(0, "k", "v")
	refused := func(say string) {
		t.Helper()
		_, startErr := third.migration(Options{}).Start(t.Context())
		_, copyErr := third.migration(Options{}).Copy(t.Context(), CopyOptions{})
		wantErr(t, startErr, ErrRefused)
		wantErr(t, copyErr, ErrRefused)
		if !strings.Contains(startErr.Error(), `the record of store "new" belongs to a migration from "third" to "new", not to one between "old" and "new"`) || !strings.Contains(copyErr.Error(), say) {
			t.Errorf("%v, and %v", startErr, copyErr)
		}
		if third.all(1) != "" {
			t.Error("keys were copied into the store of another migration")
		}
	}
	refused(`from store "third"`)
	// Nor does the end of a migration with yet another one change that.
	record = side.Record{State: side.Primary, Epoch: 5, Migration: "m5", Source: "old", Target: "fifth"}
	if _, _, err := third.sides[0].SwapRecord(t.Context(), 0, record); err != nil {
		t.Fatal(err)
	}
	refused(`belongs to a migration from "old" to "fifth"`)
}
