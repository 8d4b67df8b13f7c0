package plan

import (
	"slices"

	"github.com/polykv/polykv/bench/workload"
)

const consulWrites = "dskit reads before it writes, which costs it less than half of a call: the server needs more time to write. " +
	"How much a client can gain at most, the bare connection shows."

const reads = "Each request has a limit of its own time and is compared with the history of the store, which takes microseconds."

// everywhere is a row on all backends but gossip: what must hold in memory, on etcd and
// on Consul, why it doesn't on the two, and who takes part on the two and on Consul only.
// The drivers in modules of their own are compared with their libraries.
func everywhere(all []string, memory, etcd, consul []Target, whyEtcd, whyConsul string, onConsul ...string) map[string]Entry {
	pair := Entry{Contestants: []string{Polykv, Raw}}
	return map[string]Entry{
		Memory:      {inMemory(), memory, ""},
		Etcd:        {all, etcd, whyEtcd},
		EtcdNoFsync: {main3(), etcd, whyEtcd},
		Consul:      {append(slices.Clone(all), onConsul...), consul, whyConsul},
		Consul3:     {append(main3(), onConsul...), consul, whyConsul},
		Bolt:        pair, NATS: pair, Postgres: pair,
	}
}

func writeRows() []Row {
	return []Row{
		{
			ID: "cas", Title: "CAS one after another, one key", Figure: Rate,
			Meaning: "How fast one component updates its own entry: a heartbeat, a ring token, a lease.",
			Spec:    workload.Spec{Work: "cas"},
			On:      everywhere(untuned(), []Target{{Dskit, 5}}, []Target{{Dskit, 1.6}, {Raw, 0.9}}, []Target{{Dskit, 1.8}, {Raw, 0.9}}, "", consulWrites, Bare),
		},
		{
			ID: "hot", Title: "CAS by 64 goroutines, one key, one client", Figure: Rate,
			Meaning: "A key that everybody in a process writes, such as a ring or a shared counter. " +
				"polykv's callers share one write to the store; the others' fight for it.",
			Spec: workload.Spec{Work: "cas", Callers: 64},
			On:   everywhere(everyone(), []Target{{Dskit, 5}}, []Target{{Dskit, 200}}, []Target{{Dskit, 100}}, "", ""),
		},
		{
			ID: "hot8", Title: "CAS by 64 goroutines, one key, 8 clients", Figure: Rate,
			Meaning: "The same key written by eight processes, eight goroutines each.",
			Spec:    workload.Spec{Work: "cas", Callers: 64, Clients: 8},
			On:      everywhere(everyone(), nil, []Target{{Dskit, 12}}, []Target{{Dskit, 10}}, "", ""),
		},
		{
			ID: "many", Title: "CAS by 64 goroutines, 64 keys, one client", Figure: Rate,
			Meaning: "Throughput of independent writes: nobody is in anybody's way.",
			Spec:    workload.Spec{Work: "cas", Callers: 64, Keys: 64},
			On: everywhere(untuned(), []Target{{Dskit, 5}}, []Target{{Dskit, 1.7}}, []Target{{Dskit, 1.5}},
				"The server and its disk are the limit of all; see the processor time.", "The server is the limit of all; see the processor time."),
		},
	}
}

func readRows() []Row {
	return []Row{
		{
			ID: "get", Title: "Get by 64 goroutines", Figure: Rate,
			Meaning: "Read throughput. polykv and the raw clients read linearizably; dskit and Cortex, " +
				"on Consul, at the agent's default consistency, which is cheaper and may be stale.",
			Spec: workload.Spec{Work: "get", Callers: 64, Keys: 64},
			On:   everywhere(untuned(), []Target{{Dskit, 10}}, []Target{{Raw, 0.97}}, []Target{{Raw, 0.97}}, reads, reads),
		},
		{
			ID: "list", Title: "List of 2,000 keys", Figure: P50,
			Meaning: "Finding all members of something, or all tenants.",
			Spec:    workload.Spec{Work: "list", Keys: 2000},
			On: everywhere(untuned(), []Target{{Dskit, 3}}, []Target{{Dskit, 1}}, []Target{{Dskit, 3}},
				"dskit links an older client, whose generated code decodes an answer sooner; most of the time is the server's.", ""),
		},
	}
}

func watchRows() []Row {
	withTuned := []string{Polykv, Dskit, DskitTuned, Raw}
	return []Row{
		{
			ID: "restart", Title: "Bytes read after a server was away for 2 s, by 20 watches of 2,000 keys of 1 KiB", Figure: Bytes,
			Meaning: "What a restart costs the server by each process that watches: until all watches have shown a change that was made then.",
			Spec:    workload.Spec{Work: "restart", Keys: 2000, ValueBytes: 1024, Watchers: 20},
			Rounds:  3,
			On: map[string]Entry{
				Etcd: {main3(), nil, ""},
			},
		},
		{
			ID: "sessions", Title: "Watches that the server has of 1,000 watches of one prefix, by one client", Figure: Count,
			Meaning: "A thousand tenants of one process that look at the same configuration.",
			Spec:    workload.Spec{Work: "sessions", Keys: 10, Watchers: 1000},
			Cold:    true,
			On:      map[string]Entry{Etcd: {main3(), []Target{{Dskit, 1000}, {Raw, 1000}}, ""}},
		},
		{
			ID: "followed", Title: "Reads of 2,000 keys by 2 goroutines, followed if the client can", Figure: Rate,
			Meaning: "Looking something up on each request: polykv by kv.Follow, without a request; the others ask the server.",
			Spec:    workload.Spec{Work: "followed", Keys: 2000, Callers: 2},
			On: map[string]Entry{
				Etcd:   {main3(), []Target{{Dskit, 100}, {Raw, 100}}, ""},
				Consul: {main3(), []Target{{Dskit, 100}, {Raw, 100}}, ""},
			},
		},
		{
			ID: "own", Title: "From a write until the writer's own copy has it", Figure: P50,
			Meaning: "Reading one's own write from a copy: polykv by Follow's WaitFor, the others by a watch of the same client. Of the time, most is the write itself.",
			Spec:    workload.Spec{Work: "own"},
			On: map[string]Entry{
				Etcd:   {main3(), []Target{{Dskit, 1.25}, {Raw, 0.9}}, ""},
				Consul: {main3(), []Target{{Dskit, 300}}, ""},
			},
		},
		{
			ID: "notify", Title: "CAS until another client's WatchKey callback", Figure: P50,
			Meaning: "How soon others know. Of the time, most is the write itself.",
			Spec:    workload.Spec{Work: "notify"},
			On: map[string]Entry{
				Memory:      {inMemory(), []Target{{Dskit, 2}}, ""},
				Etcd:        {withTuned, []Target{{Dskit, 1.25}}, ""},
				EtcdNoFsync: {main3(), []Target{{Dskit, 1.25}}, ""},
				Consul:      {withTuned, []Target{{Dskit, 300}, {DskitTuned, 1}}, ""},
				Consul3:     {withTuned, []Target{{Dskit, 300}, {DskitTuned, 1}}, ""},
				Bolt:        {[]string{Polykv}, nil, ""}, // bbolt has no watches
				NATS:        {[]string{Polykv, Raw}, nil, ""},
				Postgres:    {[]string{Polykv, Raw}, nil, ""},
			},
		},
		{
			ID: "prefix", Title: "10,000 writes under a watched prefix, until the watch has shown the final state", Figure: Total,
			Meaning: "How soon a watch has caught up with a storm of changes, 64 writers and 1,000 keys.",
			Spec:    workload.Spec{Work: "prefixwatch", Callers: 64, Keys: 1000, Writes: 10_000},
			Rounds:  3,
			On: map[string]Entry{
				Memory:      {inMemory(), []Target{{Dskit, 1}}, ""},
				Etcd:        {main3(), []Target{{Dskit, 1}}, ""},
				EtcdNoFsync: {main3(), []Target{{Dskit, 1}}, ""},
				Consul:      {[]string{Polykv, Dskit, DskitTuned, Raw}, []Target{{Dskit, 1}}, ""},
			},
		},
	}
}

func electionRows() []Row {
	row := func(id, title, meaning string, work string, seconds float64, on map[string]Entry) Row {
		return Row{
			ID: id, Title: title, Meaning: meaning, Figure: P50, On: on,
			Spec: workload.Spec{Work: work, TTL: 10}, Seconds: seconds, Rounds: 3, // TTL: the shortest that Consul takes
		}
	}
	pair := []string{Polykv, Raw}
	return []Row{
		row("handover", "From a leader's resignation until another one is told that it leads",
			"How long nobody leads at a restart. The raw clients' elections are etcd's package concurrency and Consul's Lock, at their defaults.",
			"handover", 3, map[string]Entry{Etcd: {pair, nil, ""}, Consul: {pair, nil, ""}}),
		row("takeover", "From a leader's death until another one is told that it leads, with a TTL of 10 s",
			"How long nobody leads at a crash. Consul ends a session after up to twice its TTL, and keeps its locks for another 15 s by default.",
			"takeover", 0.1, map[string]Entry{Etcd: {pair, nil, ""}, Consul: {pair, nil, ""}}),
	}
}

func gossipRows() []Row {
	spec := workload.Spec{Work: "gossip", Nodes: 30, Keys: 100, Writes: 150}
	const long = 3 // seconds, since dskit's changes take half of one
	row := func(id, title string, figure Figure, factor float64, meaning string) Row {
		return Row{
			ID: id, Title: title, Figure: figure, Meaning: meaning, Spec: spec, Seconds: long, Rounds: 3,
			On: map[string]Entry{Gossip: {both(), []Target{{Dskit, factor}}, ""}},
		}
	}
	idle := row("gossip-idle", "Processor time of 30 idle nodes, of one core", Idle, 1, "What it costs to be there.")
	idle.Spec = workload.Spec{Work: "gossipidle", Nodes: 30}
	get := row("gossip-get", "Get of a table of 5,000 entries", Rate, 100, "Reading a large value, such as a ring, on each request.")
	get.Spec = workload.Spec{Work: "gossipget", Nodes: 1, Keys: 5000}
	get.Seconds = 0.5
	return []Row{
		row("gossip-p50", "From a CAS until another node's callback, median", P50, 100, "How soon the others know: 30 nodes, a table of 100 entries, 150 changes a second."),
		row("gossip-p99", "From a CAS until another node's callback, 99th percentile", P99, 50, "How long one may have to wait."),
		row("gossip-cpu", "Processor time of all 30 nodes by CAS", CPU, 1.5, "What each change costs, the nodes' idle load and their watches included."),
		row("gossip-bytes", "Bytes sent by all 30 nodes by CAS", Bytes, 1, "Traffic, what keeps the cluster together included."),
		idle, get,
	}
}
