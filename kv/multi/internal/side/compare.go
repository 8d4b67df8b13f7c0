package side

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

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
	// differ for a moment. Default 3.
	Attempts int

	// Found is called with each difference, ascending by key. Its error ends
	// the comparison.
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
	var totals Totals
	task := Task{From: a, To: b, Equal: o.Equal}
	err := merge(ctx, a, b, o.Prefix, func(p pair) error {
		totals.count(p)
		if o.Progress != nil && totals.Keys%progressEvery == 0 {
			o.Progress(totals)
		}
		if p.err == nil && task.equal(p.a, p.b) {
			return nil
		}
		p, differs, err := confirm(ctx, task, p, o.Attempts)
		if err != nil || !differs {
			return err
		}
		totals.Different++
		if o.Found != nil {
			return o.Found(difference(p))
		}
		return nil
	})
	if o.Progress != nil {
		o.Progress(totals)
	}
	return totals, err
}

// confirm reads a key again that the scans found different.
func confirm(ctx context.Context, t Task, p pair, attempts int) (pair, bool, error) {
	if attempts <= 0 {
		attempts = 3
	}
	pause := 10 * time.Millisecond
	for n := 0; ; n++ {
		again := pair{key: p.key}
		var err error
		again.a, again.b, err = t.read(ctx, p.key)
		switch {
		case err != nil && (ctx.Err() != nil || stops(err)):
			return p, false, err
		case err != nil:
			again.err = err
		case t.equal(again.a, again.b):
			return again, false, nil
		}
		if n+1 >= attempts {
			return again, true, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return p, false, err
		}
		pause *= 2
	}
}

func (t Task) read(ctx context.Context, key string) (a, b seen, err error) {
	if a.value, a.exists, err = t.From.Get(ctx, key, nil); err != nil {
		return a, b, err
	}
	b.value, b.exists, err = t.To.Get(ctx, key, nil)
	return a, b, err
}

// stops reports whether err ends a whole run rather than being about one key.
func stops(err error) bool {
	return matches(err, kv.ErrFenced, kv.ErrClosed, kv.ErrUnavailable, kv.ErrPermission, kv.ErrNotSupported,
		context.Canceled, context.DeadlineExceeded)
}
