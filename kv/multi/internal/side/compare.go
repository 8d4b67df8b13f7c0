package side

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
)

// Reason says how a key differs between two stores.
type Reason string

// The reasons of a Difference.
const (
	Missing    Reason = "missing"    // it is in the first store only
	Extra      Reason = "extra"      // it is in the second store only
	Different  Reason = "different"  // its values differ
	Unreadable Reason = "unreadable" // one of its values can't be read
)

// Difference is one key that two stores don't agree on. It never holds the
// values.
type Difference struct {
	Key    string `json:"key"`
	Reason Reason `json:"reason"`
	From   *Sum   `json:"from,omitempty"`  // nil: absent in the first store
	To     *Sum   `json:"to,omitempty"`    // nil: absent in the second store
	Error  string `json:"error,omitempty"` // of Unreadable
}

// Sum stands for a value.
type Sum struct {
	Size   int    `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // the first 12 hexadecimal digits
}

func sum(v seen) *Sum {
	if !v.exists {
		return nil
	}
	h := sha256.Sum256(v.value)
	return &Sum{Size: len(v.value), SHA256: hex.EncodeToString(h[:6])}
}

func difference(p pair) Difference {
	d := Difference{Key: p.key, From: sum(p.a), To: sum(p.b)}
	switch {
	case p.err != nil:
		d.Reason, d.Error, d.From, d.To = Unreadable, p.err.Error(), nil, nil
	case !p.b.exists:
		d.Reason = Missing
	case !p.a.exists:
		d.Reason = Extra
	default:
		d.Reason = Different
	}
	return d
}

// Totals are what Compare and Copy have done so far.
type Totals struct {
	Keys      int   `json:"keys"`  // compared: those that are in either store
	Bytes     int64 `json:"bytes"` // of the keys and values of the first store
	Different int   `json:"different"`

	// Moving are keys that differed whenever they were read, but were written
	// and mirrored between two readings.
	Moving int `json:"moving,omitempty"`

	// Of Copy only.
	Copied  int `json:"copied"`
	Deleted int `json:"deleted"`
	Kept    int `json:"kept"` // extra keys that nobody asked to delete
	Failed  int `json:"failed"`
}

func (t *Totals) count(p pair) {
	t.Keys++
	if p.a.exists {
		t.Bytes += int64(len(p.key) + len(p.a.value))
	}
}

// progressEvery is how many keys pass between two calls of Progress.
const progressEvery = 100

// CompareOptions says what to compare and whom to tell. The zero value
// compares everything and tells nobody.
type CompareOptions struct {
	Prefix string // only keys that begin with it

	// Equal is as in Task.
	Equal func(a, b []byte) bool

	// Attempts is how often both values of a key are read again before they
	// count as different, since a write that is being mirrored makes them
	// differ for a moment. Default Patient, with Found until very many differ.
	Attempts int

	// Found is called with each difference, ascending by key and one call at a
	// time. Its error ends the comparison.
	Found func(Difference) error

	// Progress is called now and then, and at the end.
	Progress func(Totals)
}

// Compare compares every key of a and b, user's keys only, and returns how
// many it compared and how many differ. Memory is bounded by a few pages,
// however many keys there are.
//
// Both sides are scanned at the same time, not at the same moment; keys that
// the scans find different are read again, key by key and linearizably, and
// only those that still differ count. While clients write, equality is thus
// an observation; it is proven only while both stores are fenced.
func Compare(ctx context.Context, a, b *Side, o CompareOptions) (Totals, error) {
	o.Attempts = cmp.Or(o.Attempts, Patient)
	return compare(ctx, Task{From: a, To: b, Equal: o.Equal}, o, func(p pair) error {
		if o.Found == nil {
			return nil
		}
		return o.Found(difference(p))
	})
}

// compare is Compare that tells found of what differs, instead of o.Found.
func compare(ctx context.Context, t Task, o CompareOptions, found func(pair) error) (Totals, error) {
	c := &comparison{task: t, opts: o}
	c.each = func(p pair) error {
		c.totals.Different++
		return found(p)
	}
	err := merge(ctx, t.From, t.To, o.Prefix, func(p pair) error {
		c.totals.count(p)
		if o.Progress != nil && c.totals.Keys%progressEvery == 0 {
			o.Progress(c.totals)
		}
		if p.err == nil && c.task.equal(p.a, p.b) {
			return nil
		}
		if c.opts.Attempts == atOnce {
			return c.each(p)
		}
		if c.doubtful = append(c.doubtful, p.key); len(c.doubtful) < batchEntries {
			return nil
		}
		return c.confirm(ctx)
	})
	if err == nil {
		err = c.confirm(ctx)
	}
	if o.Progress != nil {
		o.Progress(c.totals)
	}
	return c.totals, err
}

const (
	// Patient attempts tell a busy key, whose mirror is a second behind, from one that differs.
	Patient = 8

	atOnce     = -1 // of attempts: what the scans find different counts as that
	hasty      = 3
	firstPause = 10 * time.Millisecond // between two attempts, then twice as long each time
)

// comparison is one run of Compare.
type comparison struct {
	task     Task
	opts     CompareOptions
	each     func(pair) error // told of what differs
	totals   Totals
	doubtful []string // keys that the scans found different, ascending
}

// confirm reads the doubtful keys again, those that still differ once more
// after a pause, and so on, and reports what is left.
func (c *comparison) confirm(ctx context.Context) error {
	keys, pause, attempts := c.doubtful, firstPause, c.opts.Attempts
	if c.doubtful = nil; c.opts.Found != nil && c.totals.Different >= batchEntries {
		attempts = min(attempts, hasty)
	}
	var first, left []pair
	for n := range attempts {
		if len(keys) == 0 {
			return nil
		}
		if n > 0 {
			if err := wait.For(ctx, pause); err != nil {
				return err
			}
			pause *= 2
		}
		var err error
		if left, err = c.differing(ctx, keys); err != nil {
			return err
		}
		if n == 0 {
			first = left
		}
		all := len(left)
		left = slices.DeleteFunc(left, func(p pair) bool { return c.moved(first, p) })
		c.totals.Moving += all - len(left)
		keys = keys[:0]
		for _, p := range left {
			keys = append(keys, p.key)
		}
	}
	for _, p := range left {
		if err := c.each(p); err != nil {
			return err
		}
	}
	return nil
}

// moved reports whether both values of a key have changed since it was read
// first: then somebody writes it and it is mirrored, and the two readings
// differ since they are not made at the same moment.
func (c *comparison) moved(first []pair, now pair) bool {
	i, found := slices.BinarySearchFunc(first, now.key, func(p pair, key string) int { return strings.Compare(p.key, key) })
	if !found || first[i].err != nil || now.err != nil {
		return false
	}
	return !same(first[i].a, now.a) && !same(first[i].b, now.b)
}

func same(a, b seen) bool { return a.exists == b.exists && bytes.Equal(a.value, b.value) }

// differing reads keys on both sides, several at a time, and returns those that
// differ, in the order of keys.
func (c *comparison) differing(ctx context.Context, keys []string) ([]pair, error) {
	pairs := make([]pair, len(keys))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(defaultWorkers, len(keys)) {
		readers.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(keys) && ctx.Err() == nil; i = next.Add(1) - 1 {
				p := pair{key: keys[i]}
				if p.a, p.b, p.err = c.task.read(ctx, p.key); p.err != nil && (ctx.Err() != nil || stops(p.err)) {
					cancel(p.err)
				}
				pairs[i] = p
			}
		})
	}
	readers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(pairs, func(p pair) bool { return p.err == nil && c.task.equal(p.a, p.b) }), nil
}

func (t Task) read(ctx context.Context, key string) (a, b seen, err error) {
	if a.value, a.exists, err = t.From.Get(ctx, key, nil); err == nil {
		b.value, b.exists, err = t.To.Get(ctx, key, nil)
	}
	return a, b, err
}

// stops reports whether err ends a whole run rather than being about one key.
func stops(err error) bool {
	return IsAny(err, kv.ErrFenced, kv.ErrClosed, kv.ErrUnavailable, kv.ErrPermission, kv.ErrNotSupported,
		context.Canceled, context.DeadlineExceeded)
}

// IsAny reports whether err is one of sentinels.
func IsAny(err error, sentinels ...error) bool {
	return slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) })
}
