package cortex

import (
	"errors"
	"flag"

	cortexkv "github.com/cortexproject/cortex/pkg/ring/kv"
	"github.com/cortexproject/cortex/pkg/ring/kv/memberlist"

	"github.com/polykv/polykv/adapters/hostconfig"
	"github.com/polykv/polykv/kv/factory"
)

// Config reads Cortex's configuration, filled from YAML or flags, into polykv's,
// for factory.New. It returns a note for each field that is set and isn't
// carried over as it is; an error if leaving one out would change what the
// program relies on, or if polykv refuses the result. See [hostconfig.Read].
//
// gossip is that of the store memberlist, and may be nil for others. The
// addresses of polykv's gossip must not be those of Cortex's own while both run.
func Config(cfg cortexkv.Config, gossip *memberlist.KVConfig) (*factory.Config, []hostconfig.Note, error) {
	if cfg.Mock != nil {
		return nil, nil, errors.New("the configuration has a client already, in Mock")
	}
	var defaults cortexkv.Config
	var ofGossip memberlist.KVConfig
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	defaults.RegisterFlagsWithPrefix("", "", fs)
	ofGossip.RegisterFlags(fs)
	return hostconfig.Read(hostconfig.Host{
		KV: cfg, Default: defaults, Memberlist: gossip, MemberlistDefault: ofGossip, Switchable: cfg.Multi.ConfigProvider != nil,
	})
}
