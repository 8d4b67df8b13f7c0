package dskit

import (
	"errors"
	"flag"

	dskitkv "github.com/grafana/dskit/kv"
	"github.com/grafana/dskit/kv/memberlist"

	"github.com/polykv/polykv/adapters/hostconfig"
	"github.com/polykv/polykv/kv/factory"
)

// Config reads dskit's configuration, filled from YAML or flags, into polykv's,
// for factory.New. It returns a note for each field that is set and isn't
// carried over as it is; an error if leaving one out would change what the
// program relies on, or if polykv refuses the result. See [hostconfig.Read].
//
// gossip is that of the store memberlist, and may be nil for others. The
// addresses of polykv's gossip must not be those of dskit's own while both run.
func Config(cfg dskitkv.Config, gossip *memberlist.KVConfig) (*factory.Config, []hostconfig.Note, error) {
	if cfg.Mock != nil {
		return nil, nil, errors.New("the configuration has a client already, in Mock")
	}
	if cfg.Etcd.EnableTLS && cfg.Etcd.TLS.Reader != nil {
		return nil, nil, errors.New("etcd: TLS.Reader is set, and polykv reads certificates from files only")
	}
	var defaults dskitkv.Config
	var ofGossip memberlist.KVConfig
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	defaults.RegisterFlagsWithPrefix("", "", fs)
	ofGossip.RegisterFlags(fs)
	return hostconfig.Read(hostconfig.Host{
		KV: cfg, Default: defaults, Memberlist: gossip, MemberlistDefault: ofGossip, Switchable: cfg.Multi.ConfigProvider != nil,
	})
}
