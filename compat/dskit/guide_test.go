package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	dskitkv "github.com/grafana/dskit/kv"
	dskitgossip "github.com/grafana/dskit/kv/memberlist"
	"github.com/grafana/dskit/ring"
	"github.com/grafana/dskit/services"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/adapters/dskit"
	"github.com/polykv/polykv/adapters/hostkv"
	"github.com/polykv/polykv/compat/internal/fleet"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi"
)

// guided is the part of a program's configuration that docs/adoption.md is about.
type guided struct {
	KVStore      dskitkv.Config
	MemberlistKV dskitgossip.KVConfig
}

// The functions below are made of what docs/adoption.md shows, line by line.

func guideOpens(ctx context.Context, cfg guided, reg prometheus.Registerer, logger log.Logger, use func(dskitkv.Client) error) error {
	storeCfg, notes, err := dskit.Config(cfg.KVStore, &cfg.MemberlistKV)
	if err != nil {
		return err
	}
	for _, note := range notes {
		level.Warn(logger).Log("msg", "configuration", "field", note)
	}
	client, err := factory.New(ctx, storeCfg, dskit.NewCodec(ring.GetCodec()), factory.Deps{Registerer: reg})
	if err != nil {
		return err
	}
	store, err := dskit.NewClient(client) // and store.Close() at the end
	if err != nil {
		return err
	}
	defer store.Close()
	return use(store)
}

func guideJoins(cfg ring.LifecyclerConfig, store dskitkv.Client, reg prometheus.Registerer, logger log.Logger) (*ring.Lifecycler, error) {
	cfg.RingConfig.KVStore.Mock = store
	lifecycler, err := ring.NewLifecycler(cfg, ring.NewNoopFlushTransferer(), "ingester", "ring", true, logger, reg)
	return lifecycler, err
}

func guideSharesANode(ctx context.Context, storeCfg *factory.Config) (kv.Client, error) {
	node, err := memberlist.Start(ctx, storeCfg.Memberlist, dskit.NewCodec(ring.GetCodec()), dskit.NewCodec(ring.GetPartitionRingCodec()))
	if err != nil {
		return nil, err
	}
	client, err := factory.New(ctx, storeCfg, dskit.NewCodec(ring.GetCodec()), factory.Deps{Memberlist: node})
	return client, err
}

func guideMoves(old dskitkv.Client, ours kv.Client) (dskitkv.Client, error) {
	both, err := multi.New(multi.DefaultConfig(), []multi.Backend{
		{Name: "dskit", Client: dskit.Use(old, ring.GetCodec(), hostkv.Options{}), Gossip: true, Equal: codec.Equal},
		{Name: "polykv", Client: ours, Gossip: true, Equal: codec.Equal},
	}, multi.WithCodec(codec)) // codec is dskit.NewCodec(ring.GetCodec())
	if err != nil {
		return nil, err
	}
	store, err := dskit.NewClient(both)
	return store, err
}

var _, _ = guideSharesANode, guideMoves // which tests of adapters/dskit carry out

// TestGuide does what the guide says.
func TestGuide(t *testing.T) {
	var cfg guided
	cfg.KVStore.RegisterFlagsWithPrefix("", "collectors/", flag.NewFlagSet("", flag.PanicOnError))
	cfg.KVStore.Store = "inmemory"
	reg, logger := prometheus.NewRegistry(), log.NewNopLogger()
	err := guideOpens(t.Context(), cfg, reg, logger, func(store dskitkv.Client) error {
		var instance ring.LifecyclerConfig
		instance.RegisterFlags(flag.NewFlagSet("", flag.PanicOnError), logger)
		instance.RingConfig = ringConfig(nil)
		instance.ID, instance.Addr, instance.NumTokens, instance.FinalSleep = "a", "127.0.0.1", 32, 0
		lifecycler, err := guideJoins(instance, store, reg, logger)
		if err != nil {
			return err
		}
		if err := services.StartAndAwaitRunning(t.Context(), lifecycler); err != nil {
			return err
		}
		fleet.Eventually(t, "it has joined", func() bool {
			value, err := store.Get(t.Context(), "ring")
			return err == nil && value != nil && value.(*ring.Desc).Ingesters["a"].Timestamp > 0
		})
		return services.StopAndAwaitTerminated(t.Context(), lifecycler)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestGuideIsThis: the code that the guide shows is the code above.
func TestGuideIsThis(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "adoption.md"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("guide_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code := map[string]bool{"...": true}
	for line := range strings.Lines(string(self)) {
		code[strings.TrimSpace(line)] = true
	}
	lines := 0
	for _, block := range regexp.MustCompile("(?ms)^ *```(go|diff)\n(.*?)^ *```").FindAllStringSubmatch(string(guide), -1) {
		for line := range strings.Lines(block[2]) {
			shown, added := strings.CutPrefix(line, "+")
			if !added && block[1] == "diff" {
				continue
			}
			lines++
			if shown = strings.TrimSpace(shown); shown != "" && !code[shown] {
				t.Errorf("the guide shows what isn't here: %s", shown)
			}
		}
	}
	if lines < 20 {
		t.Errorf("the guide shows only %d lines of code", lines)
	}
}
