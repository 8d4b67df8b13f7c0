package factory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/metrics"
	"github.com/polykv/polykv/kv/multi"
)

// Deps are what a client uses of its program. Every field may be left out.
type Deps struct {
	// Logger gets what has no caller to be told. Default slog.Default().
	Logger *slog.Logger

	// Registerer takes the client's metrics, see package metrics. Default:
	// there are none. Any number of clients may share one.
	Registerer prometheus.Registerer

	// Observer is told what the client's engine does, beside the metrics. If it
	// is a [kv.Tracer], as that of kv/otel, it is there when work begins, mirroring
	// included.
	Observer kv.Observer

	// Codecs are those of views that the program will make of the client by
	// [kv.WithCodec], beside the client's own: a gossip node must know all
	// its codecs from the start. Other backends don't need to be told.
	Codecs []codec.Codec

	// Memberlist is a gossip node of which clients of the backend "memberlist"
	// are made: several components of one process should share a node, and
	// the program closes it. Default: each client starts a node of its own, as
	// its section says, and closes it.
	Memberlist *memberlist.Node
}

// New returns a client as cfg says, whose values go through cdc. It validates
// cfg and contacts nobody; [kv.Ping] tells whether the backend answers. An
// error about the configuration is, or wraps, a [*FieldError].
//
// cfg is not kept and may be used again, for as many clients as wanted: each
// has a connection of its own. ctx bounds the opening only. The caller closes
// the client.
func New(ctx context.Context, cfg *Config, cdc codec.Codec, deps Deps) (kv.Client, error) {
	if cfg == nil || cdc == nil {
		return nil, errors.New("factory.New: the configuration and the codec must not be nil")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if slices.Contains(deps.Codecs, nil) {
		return nil, errors.New("factory.New: there is a nil codec among Deps.Codecs")
	}
	deps.Logger = cmp.Or(deps.Logger, slog.Default())
	var m *metrics.Metrics // nil: nothing is measured
	if deps.Registerer != nil {
		var err error
		if m, err = metrics.New(deps.Registerer, metrics.Options{}); err != nil {
			return nil, err
		}
	}
	client, err := cfg.open(ctx, cdc, deps, m)
	if err != nil {
		return nil, err
	}
	if cfg.Require == requireLinearizable && !kv.Linearizable(client) { // a driver of others, which the configuration doesn't know
		return nil, errors.Join(&FieldError{Field: "require", Err: cfg.tooWeak(cfg.Backend)}, client.Close())
	}
	prefixed, err := kv.Prefix(client, cfg.Prefix)
	if err != nil {
		return nil, errors.Join(inField("prefix", 0, err), client.Close())
	}
	checked := prefixed
	if !cfg.side && !cfg.isMulti() && !cfg.isGossip() { // the stores of a multi-client obey their records, and gossip has none
		checked, err = multi.CheckRecord(prefixed, cmp.Or(cfg.RecordCheck, multi.RecordRefuse), deps.Logger)
		if err != nil {
			return nil, errors.Join(err, prefixed.Close())
		}
	}
	if m == nil {
		return checked, nil
	}
	return m.Wrap(checked, cfg.Backend), nil // outermost, so that a Ping below the prefix is measured too
}

// open returns the client of cfg's store, or of both, without prefix and metrics.
func (c *Config) open(ctx context.Context, cdc codec.Codec, deps Deps, m *metrics.Metrics) (kv.Client, error) {
	if c.isMulti() {
		return c.Multi.open(ctx, cdc, deps, m)
	}
	d, err := c.set().lookup(c.Backend)
	if err != nil {
		return nil, err
	}
	env := Env{Backend: d.Name, Options: c.Client.options(), Codec: cdc, Codecs: deps.Codecs, Registerer: deps.Registerer, Memberlist: deps.Memberlist}
	env.Options.Backend = d.Name
	env.Options.Logger = deps.Logger
	env.Options.Observer = deps.Observer
	if m != nil {
		env.Options.Observer = kv.Observers(deps.Observer, m.Observer(d.Name))
	}
	section := c.section(d)
	got, err := d.open(ctx, section, env)
	switch {
	case err != nil:
		return nil, opening(d.Name, section, err)
	case got.client != nil:
		return got.client, nil
	case got.store != nil:
		return kv.New(got.store, env.Codec, &env.Options), nil
	default:
		return nil, fmt.Errorf("driver %q opened nothing and gave no error", d.Name)
	}
}
