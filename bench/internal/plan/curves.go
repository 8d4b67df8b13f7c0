package plan

import "github.com/polykv/polykv/bench/workload"

// along returns a curve's points.
func along(spec workload.Spec, xs []int, set func(*workload.Spec, int)) []Point {
	var points []Point
	for _, x := range xs {
		s := spec
		set(&s, x)
		points = append(points, Point{float64(x), s})
	}
	return points
}

func setKeys(s *workload.Spec, n int)   { s.Keys = n }
func setOthers(s *workload.Spec, n int) { s.Writes = max(0, n-s.Keys) }

func curves() []Row {
	keys := []int{10, 1000, 30_000, 1_000_000}
	inMemory := map[string]Entry{Memory: {Contestants: both()}}
	return []Row{
		{
			ID: "get-keys", Title: "Get as the store grows", Figure: Rate, Axis: "keys", Log: true, On: inMemory, Rounds: 3,
			Curve: along(workload.Spec{Work: "get"}, keys, setKeys),
			Shape: "A lookup walks the key's path in a radix tree; what grows is the share of it that is not in the processor's caches.",
		},
		{
			ID: "cas-keys", Title: "CAS as the store grows", Figure: Rate, Axis: "keys", Log: true, On: inMemory, Rounds: 3,
			Curve: along(workload.Spec{Work: "cas"}, keys, setKeys),
			Shape: "A write replaces the record in its leaf and copies no path, so it costs what a lookup costs and a constant.",
		},
		{
			ID: "list-keys", Title: "List of 100 keys as the store grows", Figure: P50, Axis: "keys in the store", Log: true, On: inMemory, Rounds: 3,
			Curve: along(workload.Spec{Work: "list", Keys: 100}, []int{100, 1000, 30_000, 1_000_000}, setOthers),
			Shape: "The tree is sorted: a listing finds the prefix and reads what it returns. dskit's looks at every key of the store.",
		},
		{
			ID: "prefix-keys", Title: "CAS until a WatchPrefix callback as the prefix grows", Figure: P50, Axis: "keys under the prefix", Log: true, On: inMemory, Rounds: 3,
			Curve: along(workload.Spec{Work: "notify"}, []int{10, 1000, 30_000, 1_000_000}, setKeys),
			Shape: "Watches are told of changes, they don't look for them, so a change costs its watchers and not the keys beside it.",
		},
		{
			ID: "watchers", Title: "CAS until all watches of the key have shown it", Figure: P50, Axis: "watches of one key", Log: true, Rounds: 3,
			On:    map[string]Entry{Memory: {Contestants: both()}, Etcd: {Contestants: both()}},
			Curve: along(workload.Spec{Work: "fanout"}, []int{1, 10, 100, 1000, 10_000}, func(s *workload.Spec, n int) { s.Watchers = n }),
			Shape: "Each watch is a goroutine to be woken: linear.",
		},
		{
			ID: "contenders", Title: "CAS on one key as more goroutines want it", Figure: Rate, Axis: "goroutines", Log: true, Rounds: 2,
			On:    map[string]Entry{Memory: {Contestants: both()}, Etcd: {Contestants: both()}, Consul: {Contestants: both()}},
			Curve: along(workload.Spec{Work: "cas"}, []int{1, 4, 16, 64, 512}, func(s *workload.Spec, n int) { s.Callers = n }),
			Shape: "One write carries all who wait, so on a server the rate grows with their number until the processor is busy with callbacks.",
		},
		{
			ID: "value-size", Title: "CAS as the value grows", Figure: Rate, Axis: "bytes of the value", Log: true, Rounds: 2,
			On:    map[string]Entry{Memory: {Contestants: both()}, Etcd: {Contestants: main3()}, Consul: {Contestants: main3()}},
			Curve: along(workload.Spec{Work: "cas"}, []int{16, 1 << 10, 16 << 10, 300 << 10}, func(s *workload.Spec, n int) { s.ValueBytes = n }),
			Shape: "From some size on, copying and sending the bytes is all that counts. Consul takes values in base64 within JSON.",
		},
		{
			ID: "key-memory", Title: "Memory of a key", Figure: Bytes, Axis: "keys", Log: true, Cold: true,
			On:    map[string]Entry{Memory: {Contestants: both()}},
			Curve: along(workload.Spec{Work: "keymemory", ValueBytes: 64}, []int{1000, 30_000, 300_000}, setKeys),
			Shape: "The bytes of the key (about 30) and of the value (64) included. A tree that is sorted, and shared with " +
				"snapshots, takes twice the memory of dskit's map; a listing of a few keys among many is what it buys.",
		},
		{
			ID: "watch-memory", Title: "Memory of an idle watch", Figure: Bytes, Axis: "watches", Log: true, Cold: true,
			On:    map[string]Entry{Memory: {Contestants: both()}, Etcd: {Contestants: both()}},
			Curve: along(workload.Spec{Work: "watchmemory"}, []int{100, 1000, 10_000}, func(s *workload.Spec, n int) { s.Watchers = n }),
			Shape: "Goroutine stacks included, of the caller too. A watch of polykv is two goroutines, one that follows the store and " +
				"the caller's, on which the callback runs: a slow callback holds nobody up. Watches of one client share streams to etcd.",
		},
	}
}
