package demo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small is a demo of a store in memory that is long enough to break what the
// wrapped clients break.
func small(store *inmemory.Store, wrap func(kv.Client) kv.Client) Options {
	return Options{
		Open: func(_ context.Context, observer kv.Observer) (kv.Client, error) {
			client, err := kv.Prefix(kv.New(store.Open(), codec.String{}, &kv.Options{Observer: observer}), "demo/")
			return wrap(client), err
		},
		Clients: 2, Workers: 4, Counters: 3, Duration: 150 * time.Millisecond, Settle: 250 * time.Millisecond,
	}
}

func honest(c kv.Client) kv.Client { return c }

func keysLeft(t *testing.T, store *inmemory.Store) []string {
	t.Helper()
	client := kv.New(store.Open(), codec.String{}, nil)
	defer client.Close()
	keys, err := client.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func broken(r *Report) []string {
	var ids []string
	for _, p := range r.Promises {
		if times, _ := p.Broken(); times > 0 {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

func TestHonestClientKeepsEveryPromise(t *testing.T) {
	store := inmemory.NewStore()
	var phases []string
	o := small(store, honest)
	o.Settle = 10 * time.Second
	o.Progress = func(p Progress) {
		if n := len(phases); n == 0 || phases[n-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
	}
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := report.Print(&text); err != nil {
		t.Fatal(err)
	}
	if report.Broken() != 0 || strings.Contains(text.String(), "BROKEN") {
		t.Error("a promise is reported as broken")
	}
	for _, want := range []string{"update a counter", "PER SECOND", "P99", "carried", "All 8 promises kept."} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	for _, p := range report.Promises {
		if p.Evidence == "" || strings.HasPrefix(p.Evidence, "0 ") {
			t.Errorf("%s was checked on nothing: %q", p.ID, p.Evidence)
		}
	}
	if t.Failed() {
		t.Log("\n" + text.String())
	}
	if left := keysLeft(t, store); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if want := []string{"running", "verifying", "cleaning up"}; !slices.Equal(phases, want) {
		t.Errorf("phases %q, want %q", phases, want)
	}
}

func TestUnknownOutcomesAreNotHeldAgainstTheStore(t *testing.T) {
	store := inmemory.NewStore()
	indeterminate := &kv.Error{Op: "CAS", Err: kv.ErrIndeterminate}
	turn := every{nth: 2}
	report, err := Run(t.Context(), small(store, func(c kv.Client) kv.Client {
		return rarely(c, func(ctx context.Context, key string, f func(any) (any, bool, error)) error {
			if turn.now() {
				return indeterminate
			}
			return errors.Join(c.CAS(ctx, key, f), indeterminate)
		})
	}))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := report.Print(&text); err != nil {
		t.Fatal(err)
	}
	if report.Broken() > 0 || !strings.Contains(text.String(), "of unknown outcome") ||
		!strings.Contains(text.String(), "failed because of the store") {
		t.Errorf("got\n%s", text.String())
	}
	if left := keysLeft(t, store); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestStoreThatNeverAnswers(t *testing.T) {
	unavailable := &kv.Error{Op: "CAS", Err: kv.ErrUnavailable}
	_, err := Run(t.Context(), small(inmemory.NewStore(), func(c kv.Client) kv.Client {
		return faulty{
			Forward: kv.Forward{Client: c},
			cas:     func(context.Context, string, func(any) (any, bool, error)) error { return unavailable },
			get:     func(context.Context, string) (any, error) { return nil, unavailable },
			delete:  func(context.Context, string) error { return unavailable },
		}
	}))
	if !errors.Is(err, kv.ErrUnavailable) || !strings.Contains(err.Error(), "no call succeeded") {
		t.Errorf("got %v", err)
	}
}

func TestInterruptVerifiesAndCleansUp(t *testing.T) {
	store := inmemory.NewStore()
	ctx, interrupt := context.WithCancel(t.Context())
	o := small(store, honest)
	o.Duration, o.Settle = time.Hour, 10*time.Second
	o.Progress = func(p Progress) {
		if p.Calls > 100 {
			interrupt()
		}
	}
	report, err := Run(ctx, o)
	if err != nil || report.Broken() > 0 || report.Elapsed > time.Minute {
		t.Errorf("report %+v, error %v", report, err)
	}
	if left := keysLeft(t, store); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestInterruptBeforeAnythingRan(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, small(inmemory.NewStore(), honest)); err == nil || !strings.Contains(err.Error(), "interrupted before") {
		t.Errorf("got %v", err)
	}
}

func TestKeysThatCannotBeRemoved(t *testing.T) {
	denied := &kv.Error{Op: "List", Err: kv.ErrPermission}
	calls := every{nth: 2} // the verification lists first
	report, err := Run(t.Context(), small(inmemory.NewStore(), func(c kv.Client) kv.Client {
		return faulty{Forward: kv.Forward{Client: c}, list: func(ctx context.Context, prefix string) ([]string, error) {
			if calls.now() {
				return nil, denied
			}
			return c.List(ctx, prefix)
		}}
	}))
	if report == nil || !errors.Is(err, kv.ErrPermission) || !errors.Is(err, ErrLeftBehind) {
		t.Errorf("report %v, error %v", report, err)
	}
}

func TestClientThatCannotBeOpened(t *testing.T) {
	o := small(inmemory.NewStore(), honest)
	opened := every{nth: 3}
	open := o.Open
	o.Open = func(ctx context.Context, observer kv.Observer) (kv.Client, error) {
		if opened.now() {
			return nil, errors.New("no more")
		}
		return open(ctx, observer)
	}
	if _, err := Run(t.Context(), o); err == nil || err.Error() != "no more" {
		t.Errorf("got %v", err)
	}
}
