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
	if cfg.isMulti() {
		return newMulti(ctx, cfg, cdc, deps)
	}
	d, err := cfg.set().lookup(cfg.Backend)
	if err != nil {
		return nil, err
	}
	env := Env{Backend: d.Name, Options: cfg.Client.options(), Codec: cdc, Codecs: deps.Codecs, Registerer: deps.Registerer, Memberlist: deps.Memberlist}
	env.Options.Backend = d.Name
	env.Options.Observer = deps.Observer
	env.Options.Logger = deps.Logger
	if env.Options.Logger == nil {
		env.Options.Logger = slog.Default()
	}
	measure := func(c kv.Client) kv.Client { return c }
	if deps.Registerer != nil {
		m, err := metrics.New(deps.Registerer, metrics.Options{})
		if err != nil {
			return nil, err
		}
		env.Options.Observer = kv.Observers(deps.Observer, m.Observer(d.Name))
		measure = func(c kv.Client) kv.Client { return m.Wrap(c, d.Name) }
	}
	client, err := open(ctx, d, cfg.section(d), env)
	if err != nil {
		return nil, err
	}
	if cfg.Require == requireLinearizable && !kv.Linearizable(client) { // a driver of others, which the configuration doesn't know
		return nil, errors.Join(&FieldError{Field: "require", Err: cfg.tooWeak(d.Name)}, client.Close())
	}
	prefixed, err := kv.Prefix(client, cfg.Prefix)
	if err != nil {
		return nil, errors.Join(inField("prefix", 0, err), client.Close())
	}
	checked := prefixed
	if !cfg.side && !d.gossip { // the stores of a multi-client obey their records, and gossip has none
		checked, err = multi.CheckRecord(prefixed, cmp.Or(cfg.RecordCheck, multi.RecordRefuse), env.Options.Logger)
		if err != nil {
			return nil, errors.Join(err, prefixed.Close())
		}
	}
	return measure(checked), nil // outermost, so that a Ping below the prefix is measured too
}

// newMulti is New for two stores.
func newMulti(ctx context.Context, cfg *Config, cdc codec.Codec, deps Deps) (kv.Client, error) {
	measure := func(c kv.Client) kv.Client { return c }
	var observer multi.Observer = multi.NopObserver{}
	if deps.Registerer != nil {
		m, err := metrics.New(deps.Registerer, metrics.Options{})
		if err != nil {
			return nil, err
		}
		measure = func(c kv.Client) kv.Client { return m.Wrap(c, multiBackend) }
		observer = m.MirrorObserver()
	}
	client, err := cfg.Multi.open(ctx, cdc, deps, observer)
	if err != nil {
		return nil, err
	}
	if cfg.Require == requireLinearizable && !kv.Linearizable(client) {
		return nil, errors.Join(&FieldError{Field: "require", Err: cfg.tooWeak(multiBackend)}, client.Close())
	}
	prefixed, err := kv.Prefix(client, cfg.Prefix)
	if err != nil {
		return nil, errors.Join(inField("prefix", 0, err), client.Close())
	}
	return measure(prefixed), nil
}

// open returns the driver's client, without prefix and metrics.
func open(ctx context.Context, d Driver, section Section, env Env) (kv.Client, error) {
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
