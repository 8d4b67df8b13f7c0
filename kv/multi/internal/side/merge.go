package side

import (
	"context"
	"errors"
	"fmt"
)

// A batch that one side's reader hands on ends at so many entries or bytes.
// What is read ahead of the other side is bounded by a few of them.
const (
	batchEntries = 256
	batchBytes   = 1 << 20
	batchesAhead = 2
)

// item is an Entry, or the error that reading it met.
type item struct {
	Entry
	err error
}

// reader reads one side ahead of its consumer.
type reader struct {
	batches chan []item
	batch   []item
	err     error // set before batches is closed
}

// readAhead starts to read. The reader's goroutine ends with the prefix or
// with ctx.
func (s *Side) readAhead(ctx context.Context, prefix string) *reader {
	r := &reader{batches: make(chan []item, batchesAhead)}
	go func() {
		defer close(r.batches)
		r.err = s.readInto(ctx, prefix, r.batches)
	}()
	return r
}

func (s *Side) readInto(ctx context.Context, prefix string, batches chan<- []item) error {
	var batch []item
	size, last := 0, ""
	send := func() error {
		select {
		case batches <- batch:
			batch, size = nil, 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for e, err := range s.Entries(ctx, prefix) {
		if err != nil && !aboutValue(ctx, e, err) {
			return err
		}
		if e.Key <= last {
			return s.wrap("the listing of", fmt.Errorf("the key %q came after %q; keys must ascend", e.Key, last))
		}
		last = e.Key
		batch = append(batch, item{e, err})
		if size += len(e.Key) + len(e.Value); len(batch) >= batchEntries || size >= batchBytes {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

// aboutValue reports whether err is about the value of one key, after which
// the iteration may go on.
func aboutValue(ctx context.Context, e Entry, err error) bool {
	return e.Key != "" && ctx.Err() == nil && !stops(err)
}

// next returns the next item, or ok false at the end.
func (r *reader) next() (it item, ok bool, err error) {
	for len(r.batch) == 0 {
		var more bool
		if r.batch, more = <-r.batches; !more {
			return item{}, false, r.err
		}
	}
	it, r.batch = r.batch[0], r.batch[1:]
	return it, true, nil
}

// pair is one key as the scans of both sides found it.
type pair struct {
	key  string
	a, b seen
	err  error // one of the two values can't be read
}

// merge reads both sides at the same time and calls each with every key that
// is in either, ascending.
func merge(ctx context.Context, a, b *Side, prefix string, each func(pair) error) error {
	ctx, cancel := context.WithCancel(ctx)
	ra, rb := a.readAhead(ctx, prefix), b.readAhead(ctx, prefix)
	defer func() {
		cancel()
		for range ra.batches { // until its goroutine is done
		}
		for range rb.batches {
		}
	}()
	ia, okA, err := ra.next()
	if err != nil {
		return err
	}
	ib, okB, err := rb.next()
	if err != nil {
		return err
	}
	for okA || okB {
		var p pair
		inA := okA && (!okB || ia.Key <= ib.Key)
		inB := okB && (!okA || ib.Key <= ia.Key)
		if inA {
			p.key, p.a, p.err = ia.Key, seen{ia.Value, true}, ia.err
			if ia, okA, err = ra.next(); err != nil {
				return err
			}
		}
		if inB {
			p.key, p.b, p.err = ib.Key, seen{ib.Value, true}, errors.Join(p.err, ib.err)
			if ib, okB, err = rb.next(); err != nil {
				return err
			}
		}
		if err := each(p); err != nil {
			return err
		}
	}
	return nil
}
