package metamorphic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kvtest"
)

// patience is how long what must happen is waited for.
const patience = 60 * time.Second

// variant is one way to have a store, and clients of it.
type variant struct {
	name   string
	open   func() (driver.Store, error) // one more handle on the store
	prefix string                       // of all keys
	tune   func(*kv.Options)
	spoil  func(driver.Store) driver.Store // breaks what the engine counts on, for the test of the tests
}

// outcome is all that a plan leads to that must be the same everywhere.
type outcome struct {
	answers []string // of each step
	final   string   // all keys and values
	told    []string // what the watches of each client told last
	wrong   []string // what is wrong by itself
}

// differs says where another outcome of the same plan isn't this one.
func (o outcome) differs(other outcome, plan []step) string {
	for i := range o.answers {
		if o.answers[i] != other.answers[i] {
			return fmt.Sprintf("step %d, %v: %s, elsewhere %s", i, plan[i], other.answers[i], o.answers[i])
		}
	}
	switch {
	case o.final != other.final:
		return fmt.Sprintf("at last there is %s, elsewhere %s", other.final, o.final)
	case !slices.Equal(o.told, other.told):
		return fmt.Sprintf("watches told %q, elsewhere %q", other.told, o.told)
	case len(other.wrong) > 0:
		return strings.Join(other.wrong, "; ")
	}
	return ""
}

// run is a plan while it is carried out.
type run struct {
	lines   []*kvtest.Store
	clients []kv.Client
	watches []*watch
}

// carryOut carries out a plan on clients of a variant.
func (v variant) carryOut(ctx context.Context, plan []step) (outcome, error) {
	r := &run{}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	for range clients {
		if err := r.add(v); err != nil {
			return outcome{}, err
		}
	}
	defer func() {
		for _, c := range r.clients {
			_ = c.Close()
		}
	}()
	for _, c := range r.clients {
		for _, what := range []kv.Range{kv.PrefixRange(""), {Key: "a"}} {
			w := &watch{last: map[string]string{}}
			r.watches = append(r.watches, w)
			watching.Go(func() { w.run(ctx, c, what) })
		}
	}
	var o outcome
	for _, s := range plan {
		o.answers = append(o.answers, r.step(ctx, s))
		time.Sleep(time.Millisecond) // in virtual time nothing is before anything else otherwise
	}
	o.final = r.all(ctx, r.clients[0], "")
	a := r.all(ctx, r.clients[1], "a")
	if i := strings.Index(a, "a/"); i >= 0 {
		a = a[:i]
	}
	for i, w := range r.watches {
		want := o.final
		if i%2 == 1 {
			want = a
		}
		w.await(want)
		o.told = append(o.told, w.String())
		o.wrong = append(o.wrong, w.problems()...)
	}
	return o, nil
}

func (r *run) add(v variant) error {
	store, err := v.open()
	if err != nil {
		return err
	}
	line, handle := kvtest.Wrap(store), driver.Store(nil)
	if handle = line; v.spoil != nil {
		handle = v.spoil(line)
	}
	opts := kv.DefaultOptions()
	opts.Logger, opts.RetryTimeout = slog.New(slog.DiscardHandler), patience
	if v.tune != nil {
		v.tune(&opts)
	}
	client, err := kv.Prefix(kv.New(handle, codec.String{}, &opts), v.prefix)
	r.lines, r.clients = append(r.lines, line), append(r.clients, client)
	return err
}

// step carries out one step and returns its answer.
func (r *run) step(ctx context.Context, s step) string {
	line := r.lines[s.client]
	before := line.Attempts()
	switch s.fault {
	case "lost answer":
		line.LoseNextAnswer()
	case "lost write":
		line.LoseNextWrite()
	case "conflict":
		line.ConflictNext()
	case "forget":
		line.Forget()
	case "cut":
		line.Cut()
	}
	answer := make(chan string, 1)
	go func() { answer <- operations[s.what](ctx, r, s) }()
	if s.fault != "cut" {
		return s.judge(<-answer)
	}
	// It is mended once the call, or a watch, has noticed.
	for deadline := time.Now().Add(patience); line.Attempts() == before && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		select {
		case a := <-answer:
			line.Mend()
			return s.judge(a)
		default:
		}
	}
	line.Mend()
	return s.judge(<-answer)
}

// judge is an answer without what the contract leaves open.
func (s step) judge(answer string) string {
	if s.open() && (strings.HasPrefix(answer, "done") || strings.HasPrefix(answer, "unknown")) {
		return "done or unknown"
	}
	return answer
}

// watch is what one was told.
type watch struct {
	mu    sync.Mutex
	last  map[string]string
	wrong []string
}

func (w *watch) run(ctx context.Context, c kv.Client, what kv.Range) {
	told := func(key string, value any) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		text, exists := value.(string)
		old, known := w.last[key]
		switch {
		case !exists && !known:
			w.wrong = append(w.wrong, fmt.Sprintf("W4: %q was told as deleted, and never was there", key))
		case exists && known && old == text:
			w.wrong = append(w.wrong, fmt.Sprintf("W4: %q was told as %q twice in a row", key, text))
		case exists:
			w.last[key] = text
		default:
			delete(w.last, key)
		}
		return true
	}
	if what.IsPrefix {
		c.WatchPrefix(ctx, what.Key, told)
		return
	}
	c.WatchKey(ctx, what.Key, func(value any) bool { return told(what.Key, value) })
}

func (w *watch) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(w.last)) {
		fmt.Fprintf(&b, "%s=%s ", key, w.last[key])
	}
	return b.String()
}

func (w *watch) problems() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrong
}

func (w *watch) await(want string) {
	for deadline := time.Now().Add(patience); w.String() != want && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// all lists keys with their values.
func (r *run) all(ctx context.Context, c kv.Client, prefix string) string {
	var b strings.Builder
	for e, err := range kv.Entries(ctx, c, prefix) {
		if err != nil {
			return describe(err)
		}
		fmt.Fprintf(&b, "%s=%v ", e.Key, e.Value)
	}
	return b.String()
}

var errRefused, errAgain = errors.New("refused by the callback"), errors.New("once more")

// describe is what must be the same of an error.
func describe(err error) string {
	for name, sentinel := range map[string]error{
		"done": nil, "unknown": kv.ErrIndeterminate, "invalid key": kv.ErrInvalidKey, "refused": errRefused, "unavailable": kv.ErrUnavailable,
		"conflict": kv.ErrConflict,
	} {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	return err.Error()
}
