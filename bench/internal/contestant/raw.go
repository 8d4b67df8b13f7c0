package contestant

import (
	"errors"
	"fmt"
	"sync"

	"github.com/polykv/polykv/bench/workload"
)

// Raw opens a store through its vendor's client.
func Raw(t workload.Target) (workload.Store, error) {
	switch t.Backend {
	case "etcd":
		return &raw{open: func() (rawClient, error) { return openRawEtcd(t) }}, nil
	case "consul":
		return &raw{open: func() (rawClient, error) { return openRawConsul(t) }}, nil
	}
	return nil, fmt.Errorf("there is no raw client of backend %q", t.Backend)
}

type rawClient interface {
	workload.Client
	Close() error
}

type raw struct {
	open    func() (rawClient, error)
	clients []rawClient
}

// Client implements workload.Store.
func (s *raw) Client() (workload.Client, error) {
	c, err := s.open()
	if err == nil {
		s.clients = append(s.clients, c)
	}
	return c, err
}

// Close implements workload.Store.
func (s *raw) Close() error {
	var errs []error
	for _, c := range s.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// known is what a raw client last saw of each key, so that its CAS is a single
// request, as polykv's is.
type known struct{ states sync.Map } // of state, by key

type state struct {
	value   any // nil: absent
	version uint64
}

func (k *known) get(key string) (state, bool) {
	s, ok := k.states.Load(key)
	if !ok {
		return state{}, false
	}
	return s.(state), true
}

func (k *known) set(key string, s state) { k.states.Store(key, s) }

// swap calls f and try until try succeeds. read is for keys not seen before.
func (k *known) swap(
	key string, f func(any) (any, bool, error),
	read func() (state, error),
	try func(old state, value string) (now state, ok bool, err error),
) error {
	old, ok := k.get(key)
	if !ok {
		var err error
		if old, err = read(); err != nil {
			return err
		}
	}
	for {
		out, _, err := f(old.value)
		if err != nil || out == nil {
			return err
		}
		now, ok, err := try(old, out.(string))
		if err != nil {
			return err
		}
		k.set(key, now)
		if ok {
			return nil
		}
		old = now
	}
}
