package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv"
)

// operation is a kind of call that is counted and timed.
type operation int

const (
	update operation = iota
	create
	remove
	read
	operations // how many there are
)

// counter is a key that all workers count up.
type counter struct {
	key       string
	successes atomic.Int64
	unknown   atomic.Int64 // updates of unknown outcome
	acked     atomic.Int64 // the highest value that a finished update wrote
}

// slot is a key that one worker creates and deletes. Its values count up, over
// deletions too, so that an older one can be told from a newer one.
type slot struct {
	key     string
	value   int64 // the last one written
	present bool
}

// worker makes one call after another.
type worker struct {
	run     *run
	name    string
	client  kv.Client
	slots   []slot
	retired []string // keys whose last write has an unknown outcome
	timing  [operations]histogram
}

const slotsPerWorker = 4

func newWorker(r *run, client, number int) *worker {
	w := &worker{run: r, name: fmt.Sprintf("%02d-%02d", client, number), client: r.clients[client]}
	for op := range w.timing {
		w.timing[op] = newHistogram()
	}
	for range slotsPerWorker {
		s := slot{}
		w.rename(&s)
		w.slots = append(w.slots, s)
	}
	return w
}

// rename gives s a key that was never used. A write of unknown outcome may
// still be applied, so nothing can be promised of its key any more.
func (w *worker) rename(s *slot) {
	if s.key != "" {
		w.retired = append(w.retired, s.key)
	}
	number := len(w.retired)*slotsPerWorker + len(w.slots)
	*s = slot{key: fmt.Sprintf("keys/%s-%03d", w.name, number)}
}

// work goes on until stop is done. Calls run under ctx, so that the last one
// comes to its end.
func (w *worker) work(ctx, stop context.Context) {
	for stop.Err() == nil {
		switch n := rand.IntN(20); {
		case n < 12:
			w.update(ctx, &w.run.counters[rand.IntN(len(w.run.counters))])
		case n < 17:
			w.toggle(ctx, &w.slots[rand.IntN(len(w.slots))])
		default:
			w.read(ctx, &w.run.counters[rand.IntN(len(w.run.counters))])
		}
	}
}

// timed runs one call, counts it and judges its error, which it returns.
func (w *worker) timed(op operation, key string, call func() error) error {
	start := time.Now()
	err := call()
	if err != nil {
		w.run.judge(key, err)
		return err
	}
	w.timing[op].add(time.Since(start))
	if op != read {
		w.run.pauses.wrote(time.Since(w.run.start))
	}
	w.run.done.Add(1)
	return nil
}

func (w *worker) update(ctx context.Context, c *counter) {
	var wrote int64
	err := w.timed(update, c.key, func() error {
		return w.client.CAS(ctx, c.key, func(in any) (any, bool, error) {
			n, err := number(in)
			wrote = n + 1
			return strconv.FormatInt(wrote, 10), false, err
		})
	})
	switch {
	case err == nil:
		c.successes.Add(1)
		raise(&c.acked, wrote)
	case errors.Is(err, kv.ErrIndeterminate):
		c.unknown.Add(1)
	}
}

// read reads through any client what another one may have written.
func (w *worker) read(ctx context.Context, c *counter) {
	acked := c.acked.Load()
	var got any
	client := w.run.clients[rand.IntN(len(w.run.clients))]
	err := w.timed(read, c.key, func() (err error) {
		got, err = client.Get(ctx, c.key)
		return err
	})
	if err != nil {
		return
	}
	w.run.readsCompared.Add(1)
	if n, err := number(got); err != nil || n < acked {
		w.run.promises.reads.breaks("%s was %d, then a read gave %v", c.key, acked, got)
	}
}

// toggle creates s's key or deletes it, and then looks at it.
func (w *worker) toggle(ctx context.Context, s *slot) {
	var err error
	if s.present {
		err = w.delete(ctx, s)
	} else {
		err = w.create(ctx, s)
	}
	switch {
	case errors.Is(err, kv.ErrIndeterminate):
		w.rename(s)
		return
	case err != nil:
		return
	}
	s.present = !s.present
	var got any
	err = w.timed(read, s.key, func() (err error) {
		got, err = w.client.Get(ctx, s.key)
		return err
	})
	if err == nil && got != s.content() {
		w.run.promises.keys.breaks("%s was written as %s and read as %s", s.key, show(s.content()), show(got))
	}
}

// content is what the key holds if every promise is kept.
func (s *slot) content() any {
	if !s.present {
		return nil
	}
	return strconv.FormatInt(s.value, 10)
}

func (w *worker) create(ctx context.Context, s *slot) error {
	var found any
	value := s.value + 1
	err := w.timed(create, s.key, func() error {
		return w.client.CAS(ctx, s.key, func(in any) (any, bool, error) {
			found = in
			return strconv.FormatInt(value, 10), false, nil
		})
	})
	if err == nil {
		w.expect(s, found)
		s.value = value
	}
	return err
}

// delete uses one of the two ways to delete a key.
func (w *worker) delete(ctx context.Context, s *slot) error {
	if rand.IntN(2) == 0 {
		return w.timed(remove, s.key, func() error { return w.client.Delete(ctx, s.key) })
	}
	var found any
	err := w.timed(remove, s.key, func() error {
		return w.client.CAS(ctx, s.key, func(in any) (any, bool, error) {
			found = in
			return kv.Remove, false, nil
		})
	})
	if err == nil {
		w.expect(s, found)
	}
	return err
}

// expect compares what the last run of a callback got, the one that counted,
// with what this worker, the only one that writes the key, had left there.
func (w *worker) expect(s *slot, in any) {
	if in != s.content() {
		w.run.promises.keys.breaks("%s was left as %s and found as %s", s.key, show(s.content()), show(in))
	}
}

// number reads a value as the number that it stands for; an absent key is 0.
func number(value any) (int64, error) {
	switch v := value.(type) {
	case nil:
		return 0, nil
	case string:
		return strconv.ParseInt(v, 10, 64)
	default:
		return 0, fmt.Errorf("a value of type %T", value)
	}
}

func show(value any) string {
	if value == nil {
		return "absent"
	}
	return fmt.Sprintf("%q", value)
}

// raise sets a to n if that is higher.
func raise(a *atomic.Int64, n int64) {
	for {
		old := a.Load()
		if n <= old || a.CompareAndSwap(old, n) {
			return
		}
	}
}
