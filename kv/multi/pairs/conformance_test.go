package pairs

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/switchtest"
)

// mode is how the two stores of a case are used.
type mode struct {
	name        string
	mirror      bool
	coordinated bool
	moved       bool // from the one to the other, in the middle of each case
}

var modes = []mode{
	{name: "mirroring", mirror: true},
	{name: "mirroring off"},
	{name: "coordinated", mirror: true, coordinated: true},
	{name: "amid a cutover", mirror: true, coordinated: true, moved: true},
}

// One case for each rule on each pair of different stores, and on two clusters
// of gossip; all cases under POLYKV_SOAK. Package multi itself runs all of them
// on two stores in memory. Gossip has no guards, and so no coordinated clients.
func TestConformance(t *testing.T) {
	names := []string{"consul", "etcd", "memory", "gossip"}
	for _, first := range names {
		for _, second := range names {
			if first == second && first != "gossip" {
				continue
			}
			for _, mode := range modes {
				if mode.coordinated && (first == "gossip" || second == "gossip") {
					continue
				}
				t.Run(fmt.Sprintf("%s to %s, %s", first, second, mode.name), func(t *testing.T) {
					runSuite(t, [2]string{first, second}, mode)
				})
			}
		}
	}
}

func runSuite(t *testing.T, names [2]string, mode mode) {
	h := conformance.Harness{Parallel: 4, Brief: !soak()}
	switch {
	case names[0] == "gossip":
		h.Features = conformance.Features{PerNode: true, Lacks: []conformance.Extra{conformance.Guarded, conformance.Views}}
	case names[1] == "gossip":
		// Guards are refused when asked for, since one store of the two takes none.
		h.Features.Lacks = []conformance.Extra{conformance.Guarded, conformance.Views}
		// The cases see the first store alone, which is linearizable; the client
		// is not, because the second one may be primary one day.
		h.Rules = slices.DeleteFunc(append(switchtest.RulesCoordinated(), "Versioned"), func(rule string) bool { return rule == "Linearizable" })
	}
	unmoved := maps.Clone(switchtest.UnmovedCoordinated)
	unmoved["C8-too-large"] = "limits are those of the primary, and these stores have others"
	unmoved["LimitsOf-sizes"] = unmoved["C8-too-large"]
	moves := switchtest.New(t, unmoved)
	if mode.moved {
		h.Rules = switchtest.RulesCoordinated()
		defer moves.Report(t)
	}
	first, second := places(t, names[0]), places(t, names[1])
	h.New = func(t conformance.T) conformance.Store {
		p := pair{fmt.Sprintf("conformance/%x/", rand.Uint64()), [2]place{first(t), second(t)}} // no other case's keys
		if names[0] == names[1] {
			p.places[1].name += " too"
		}
		if mode.coordinated {
			p.begin(t)
		}
		wrap := unwrapped
		if mode.moved {
			c := moves.During(t, p.mover())
			wrap = func(s driver.Store) driver.Store { return switchtest.Trigger{Store: s, Countdown: c} }
		}
		return conformance.Store{
			Open:   func(c codec.Codec, o kv.Options) (kv.Client, error) { return p.openFor(c, o, mode, wrap) },
			Prefix: p.prefix,
		}
	}
	conformance.Run(t, h)
}

// begin writes the records of a migration.
func (p pair) begin(t conformance.T) {
	m, closeBoth, err := p.migration()
	if err != nil {
		t.Fatalf("opening the stores: %v", err)
	}
	defer closeBoth()
	if _, err := m.Start(t.Context()); err != nil {
		t.Fatalf("starting the migration: %v", err)
	}
}

// mover makes one of the stores primary, by index, one move at a time.
func (p pair) mover() func(target int) error {
	var moving sync.Mutex
	return func(target int) error {
		moving.Lock()
		defer moving.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		m, closeBoth, err := p.migration()
		if err != nil {
			return err
		}
		defer closeBoth()
		command := m.Cutover
		if target == 0 {
			command = m.Rollback
		}
		_, err = command(ctx)
		return err
	}
}

// openFor opens a client for a case of the suite.
func (p pair) openFor(c codec.Codec, o kv.Options, mode mode, wrap wrapping) (kv.Client, error) {
	var backends []multi.Backend
	for i, at := range p.places {
		client, err := p.open(i, c, o, wrap)
		if err != nil {
			return nil, err
		}
		backends = append(backends, multi.Backend{Name: at.name, Client: client, Gossip: at.gossips, Equal: memberlist.Equal(c)})
		if !mode.moved {
			o.Observer = nil // mirrors are not what users ask for
		}
	}
	cfg := multi.DefaultConfig()
	cfg.Mirror, cfg.Coordinated = mode.mirror, mode.coordinated
	cfg.MirrorTimeout = 10 * time.Second // a loaded machine must not turn the mirrors off
	return multi.New(cfg, backends, multi.WithLogger(o.Logger))
}
