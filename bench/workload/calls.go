package workload

import (
	"context"
	"fmt"
	"time"
)

// casWork: Callers goroutines on Clients clients increment Keys counters of
// ValueBytes. What was acknowledged must be in the store afterwards.
func casWork(ctx context.Context, e *env) (Sampler, error) {
	clients, err := e.filled(ctx, e.Keys)
	if err != nil {
		return nil, err
	}
	keys := e.keys()
	sum := func(ctx context.Context) (int64, error) {
		var total int64
		for _, key := range keys {
			v, err := clients[0].Get(ctx, key)
			if err != nil {
				return 0, err
			}
			n, err := number(v)
			if err != nil {
				return 0, err
			}
			total += n
		}
		return total, nil
	}
	countable := e.Keys <= 1000
	return func(ctx context.Context) (Sample, error) {
		var before, after int64
		var err error
		if countable {
			if before, err = sum(ctx); err != nil {
				return Sample{}, err
			}
		}
		next := make([]int, e.Callers) // each goes round all keys, from a place of its own
		for i := range next {
			next[i] = i * max(1, e.Keys/e.Callers)
		}
		spread := e.Keys > e.Callers
		s, err := measure(func() (Sample, error) {
			return e.repeat(ctx, func(ctx context.Context, caller int) error {
				i := caller
				if spread {
					next[caller] += 7919
					i = next[caller]
				}
				return clients[caller%len(clients)].CAS(ctx, keys[i%len(keys)], e.increment)
			})
		})
		if err != nil {
			return s, err
		}
		if countable {
			if after, err = sum(ctx); err != nil {
				return s, err
			}
			s.Lost = max(0, s.Calls-(after-before))
		}
		return s, nil
	}, nil
}

// getWork: Callers goroutines read Keys keys of ValueBytes.
func getWork(ctx context.Context, e *env) (Sampler, error) {
	clients, err := e.filled(ctx, e.Keys)
	if err != nil {
		return nil, err
	}
	return e.reads(func(ctx context.Context, caller int, key string) (any, error) {
		return clients[caller%len(clients)].Get(ctx, key)
	}), nil
}

// reads has each of Callers goroutines read, all over the Keys keys.
func (e *env) reads(read func(ctx context.Context, caller int, key string) (any, error)) Sampler {
	keys := e.keys()
	return func(ctx context.Context) (Sample, error) {
		next := make([]struct {
			i int
			_ [56]byte // a cache line each
		}, e.Callers)
		return measure(func() (Sample, error) {
			return e.repeat(ctx, func(ctx context.Context, caller int) error {
				next[caller].i += 7919
				key := keys[(caller+next[caller].i)%len(keys)]
				v, err := read(ctx, caller, key)
				if err == nil && v == nil {
					return fmt.Errorf("the key %q is absent", key)
				}
				return err
			})
		})
	}
}

// listWork: one caller lists Keys keys, while the store has Writes others.
func listWork(ctx context.Context, e *env) (Sampler, error) {
	clients, err := e.filled(ctx, e.Keys)
	if err != nil {
		return nil, err
	}
	others := env{Spec: e.Spec}
	others.Prefix += "-others"
	if err := others.fill(ctx, clients[0], e.Writes); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (Sample, error) {
		return measure(func() (Sample, error) {
			var times durations
			s, err := e.repeat(ctx, func(ctx context.Context, _ int) error {
				start := time.Now()
				keys, err := clients[0].List(ctx, e.Prefix+"/")
				times = append(times, time.Since(start))
				if err == nil && len(keys) != e.Keys {
					return fmt.Errorf("a listing of %d keys, there are %d", len(keys), e.Keys)
				}
				return err
			})
			s.Values = times.quantiles()
			return s, err
		})
	}, nil
}
