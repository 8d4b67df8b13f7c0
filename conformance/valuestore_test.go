package conformance

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// object is what a valueStore has in place of bytes. It knows what it was made
// from, so that a write made from another state than it replaces is seen.
type object struct {
	encoded string
	onto    driver.Version
	removal bool
}

// valueStore is the in-memory store as a driver.ValueStore.
type valueStore struct {
	driver.Store
	codec codec.Codec
}

func (s valueStore) NonBlocking() bool { return true }

func (s valueStore) Values() driver.Values { return s }

func (s valueStore) ValuesOf(c driver.Codec) (driver.Values, error) {
	s.codec = c
	return s, nil
}

func (s valueStore) Raw() driver.Values {
	s.codec = codec.Bytes{}
	return s
}

func (s valueStore) Value(o any, _ bool) (any, error) {
	obj, ok := o.(*object)
	if !ok {
		return nil, fmt.Errorf("the object is a %T", o)
	}
	value, err := s.codec.Decode([]byte(obj.encoded))
	if err == nil && value == nil {
		err = errors.New("nil")
	}
	return value, err
}

func (s valueStore) Object(_ string, prev, value any, limit int) (any, error) {
	o := &object{removal: value == nil}
	if base, ok := prev.(*object); ok {
		o.onto = base.onto
	}
	if value == nil {
		return o, nil
	}
	encoded, err := s.codec.Encode(value)
	if err == nil && limit > 0 && len(encoded) > limit {
		err = driver.ErrTooLarge
	}
	o.encoded = string(encoded)
	return o, err
}

func (s valueStore) Sum(o any) [2]uint64 {
	h := fnv.New64a()
	if obj, ok := o.(*object); ok {
		_, _ = h.Write([]byte(obj.encoded))
	}
	return [2]uint64{h.Sum64()}
}

func withObject(e driver.Entry) driver.Entry {
	if e.Exists() {
		e.Object = &object{encoded: string(e.Value), onto: e.Version}
	}
	e.Value = nil
	return e
}

func (s valueStore) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	e, err := s.Store.Get(ctx, req)
	return withObject(e), err
}

func (s valueStore) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	p, err := s.Store.Scan(ctx, req)
	for i, e := range p.Entries {
		p.Entries[i] = withObject(e)
	}
	return p, err
}

func (s valueStore) Swap(ctx context.Context, sw driver.Swap) (driver.Result, error) {
	switch o, ok := sw.Object.(*object); {
	case sw.Remove && sw.Object == nil:
	case sw.Remove || !ok:
		return driver.Result{}, driver.Permanent(fmt.Errorf("the object is a %T, remove is %v", sw.Object, sw.Remove))
	case o.removal || o.onto != sw.Prev.Version:
		return driver.Result{}, driver.Permanent(fmt.Errorf("an object made from version %d replaces %d", o.onto, sw.Prev.Version))
	default:
		sw.Value = []byte(o.encoded)
	}
	r, err := s.Store.Swap(ctx, sw)
	r.Entry = withObject(r.Entry)
	return r, err
}

func (s valueStore) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	return s.Store.Watch(ctx, req, func(e driver.Event) {
		e.Entry = withObject(e.Entry)
		emit(e)
	})
}

// Writes and deletions that meet in one group are made one upon the other, from
// what the store has.
func TestValueStoreGroupsDeletions(t *testing.T) {
	c := kv.New(valueStore{Store: inmemory.NewStore().Open(), codec: codec.String{}}, codec.String{}, nil)
	defer c.Close()
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for n := range 300 {
				err := error(nil)
				if (i+n)%3 == 0 {
					err = c.Delete(t.Context(), "k")
				} else {
					err = c.CAS(t.Context(), "k", increment)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
}

// A watch shows the stored bytes to a raw view alone: elsewhere they would have
// to be made first.
func TestValueStoreShowsBytes(t *testing.T) {
	c := kv.New(valueStore{Store: inmemory.NewStore().Open(), codec: docs()}, docs(), nil)
	defer c.Close()
	err := c.CAS(t.Context(), "k", func(any) (any, bool, error) { return &doc{Text: "v"}, false, nil })
	if err != nil {
		t.Fatal(err)
	}
	raw, err := kv.Raw(c)
	if err != nil {
		t.Fatal(err)
	}
	for client, want := range map[kv.Client]string{c: "", raw: `{"Text":"v","Tags":null}`} {
		err := kv.Watch(t.Context(), client, kv.KeyRange("k"), func(e kv.Event) bool {
			if e.Type == kv.Put && string(e.Stored) != want {
				t.Errorf("the stored bytes are shown as %q, want %q", e.Stored, want)
			}
			return e.Type != kv.Put
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestValueStore runs the suite on a driver that keeps values as objects.
func TestValueStore(t *testing.T) {
	Run(t, Harness{New: func(T) Store {
		s := inmemory.NewStore()
		return Store{
			Open: func(c codec.Codec, o kv.Options) (kv.Client, error) {
				return kv.New(valueStore{Store: s.Open(), codec: c}, c, &o), nil
			},
		}
	}})
}
