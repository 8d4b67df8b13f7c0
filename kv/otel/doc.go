// Package kvotel makes traces of OpenTelemetry of what polykv does. Metrics are
// not its business: package kv/metrics has them, for Prometheus.
//
// A [Tracing] is used from both sides, as a kv/metrics.Metrics is. [Tracing.Wrap]
// makes a span of every call of a client and every callback. As the Observer of
// kv.Options or factory.Deps it makes one of every request to the store, of every
// session of watches, and of every attempt of package multi to mirror a key. The
// spans of the store's own client library, such as those of otelgrpc or otelhttp,
// become children of the requests.
//
//	span                  kind      parent           links to
//	kv.CAS, kv.Get, ...   internal  the caller's     the swaps that it shared
//	kv.CAS callback       internal  the call         -
//	kv.Watch, ...         internal  the caller's     its sessions
//	kv.Watch callback     internal  -                the watch
//	store.swap, ...       client    the call         the calls that share it
//	store.watch           client    -                the watches that it was begun for
//	mirror                internal  -                the writes that it mirrors
//
// Callers of one key that meet share a swap. It is a child of one of their calls,
// the first whose trace is sampled; it links to all, and all to it. Baggage and
// values of contexts reach the driver from the first of them. What goes on longer
// than a call, or belongs to none, is a trace of its own: a watch may run for
// months.
//
// Attributes: db.system.name (the backend), db.operation.name, error.type
// (the words of [kv.Reason]); polykv.key or polykv.prefix; of a swap
// polykv.outcome and polykv.callers, as [kv.Observer] has them; of what is
// mirrored polykv.store (the name of the store that is written); of a callback
// polykv.decision ("put", "remove", "nothing", "retry", "error" or "panic"); of a
// watch's callback polykv.event. A span of a watch has the events
// "polykv.synced", "polykv.interrupted" and "polykv.undecodable".
//
// No span has a value, nor the text of an error that a callback or a codec may
// have put one into: only spans of requests and sessions say what the store
// said.
package kvotel
