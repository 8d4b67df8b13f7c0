package memberlist

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// simOrder is a course of events that undid deletions before contexts were kept.
type simOrder struct {
	name  string
	rules []state.Rule // without which it ends wrongly, each time
	most  int          // bytes of tombstones; 0: as many as there are
	play  func(c *simCluster) error
}

// run plays an order on a cluster of three in virtual time, then mends the cluster
// and returns what is wrong with what is left. All keys exist everywhere when it
// begins.
func (o simOrder) run(t *testing.T, broken state.Rule) (err error) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		var log bytes.Buffer
		c := newSimCluster(3, 1, &log)
		c.broken, c.most = broken, cmp.Or(o.most, c.most)
		defer c.close()
		if err = o.on(c); err != nil && testing.Verbose() {
			err = fmt.Errorf("%w\n%s", err, log.String())
		}
	})
	return err
}

func (o simOrder) on(c *simCluster) error {
	for i := range c.slots {
		if err := c.start(i); err != nil {
			return err
		}
	}
	c.sleep(10 * time.Minute)
	for k := range simKeys {
		if err := c.write(k%3, simKey(k), "first"); err != nil {
			return err
		}
	}
	if err := c.agree(time.Hour); err != nil {
		return err
	}
	if err := o.play(c); err != nil {
		return err
	}
	return c.outcome()
}

const simKeys = 40

func simKey(k int) string {
	if k%4 == 3 {
		return fmt.Sprintf("%s/e%d", simMap, k)
	}
	return fmt.Sprintf("key-%d", k)
}

// deleteHalf deletes on a slot the keys with even numbers, and writes others.
func deleteHalf(c *simCluster, slot int) error {
	for k := range simKeys {
		if k/4%2 == 0 {
			if err := c.write(slot, simKey(k), ""); err != nil {
				return err
			}
		}
	}
	for k := range 100 {
		if err := c.write(slot, fmt.Sprintf("new-%d", k), "while one was away"); err != nil {
			return err
		}
	}
	return nil
}

// simOrders are those that were found, and those for single rules.
var simOrders = []simOrder{
	{"away for longer than tombstones are kept, and back over a slow line", nil, 0, func(c *simCluster) error {
		c.partition(1 << 2)
		c.sleep(10 * time.Minute)
		if err := deleteHalf(c, 0); err != nil {
			return err
		}
		c.sleep(3 * simTimeout)
		c.fabric.SetRate(200)
		c.heal()
		c.sleep(time.Hour)
		return nil
	}},
	{"somebody has recorded a datagram, and plays it to all when the deletion is forgotten", []state.Rule{state.RuleRefuse}, 0, func(c *simCluster) error {
		recorded, ok := c.slots[1].node.store.Read(codec.String{}.CodecID(), state.KeyDigest{Key: simKey(0)})
		if !ok {
			return errors.New("there is nothing to record")
		}
		if err := c.write(0, simKey(0), ""); err != nil {
			return err
		}
		c.sleep(3 * simTimeout)
		for _, s := range c.slots {
			s.node.store.Apply(recorded, nil)
		}
		c.sleep(time.Hour)
		return nil
	}},
	{"frozen for longer than tombstones are kept, so that it saw nobody fail", nil, 0, func(c *simCluster) error {
		return c.deleteWhileFrozen(3 * simTimeout)
	}},
	{"frozen for longer than tombstones are held, against two that were right", nil, 0, func(c *simCluster) error {
		return c.deleteWhileFrozen(2 * simTolerance)
	}},
	{"a member that the others have forgotten is back", []state.Rule{state.RuleDrop, state.RuleParts}, 0, func(c *simCluster) error {
		c.partition(1 << 2)
		c.sleep(10 * time.Minute)
		if err := deleteHalf(c, 0); err != nil {
			return err
		}
		c.sleep(simTolerance + 6*time.Hour) // failed members are remembered for an hour more
		c.heal()
		c.sleep(time.Hour)
		return nil
	}},
	{"a new process of the same name runs while the old one is cut off", []state.Rule{state.RuleClaim}, 0, func(c *simCluster) error {
		old := c.slots[2]
		c.partition(1 << 2)
		c.sleep(10 * time.Minute)
		c.slots = append(c.slots, &simSlot{name: old.name, addr: nextAddr(old), clock: &simClock{}})
		if err := c.start(3); err != nil {
			return err
		}
		c.sleep(10 * time.Minute)
		if err := deleteHalf(c, 0); err != nil {
			return err
		}
		c.sleep(3 * simTimeout)
		c.heal()
		c.sleep(time.Hour)
		return nil
	}},
	{"a writer is gone at once, and one that has what it wrote is away", []state.Rule{state.RuleDots}, 0, func(c *simCluster) error {
		if err := c.write(1, "last", "words"); err != nil {
			return err
		}
		c.sleep(time.Second)
		c.crash(1)
		c.partition(1 << 2)
		if err := c.write(0, "last", ""); err != nil {
			return err
		}
		c.sleep(simTolerance + 6*time.Hour)
		c.heal()
		c.sleep(time.Hour)
		return nil
	}},
	{"what is deleted, and forgotten since there is no room, is written again while one is away", []state.Rule{state.RuleSupersede}, 5000, func(c *simCluster) error {
		if err := c.write(0, simKey(0), ""); err != nil {
			return err
		}
		if err := c.agree(time.Hour); err != nil {
			return err
		}
		c.partition(1 << 2)
		if err := deleteHalf(c, 0); err != nil {
			return err
		}
		c.sleep(2 * simHousekeeping)
		if err := c.write(0, simKey(0), "again"); err != nil {
			return err
		}
		c.heal()
		c.sleep(time.Hour)
		return nil
	}},
	{"what was deleted twice is written again while one is away", nil, 0, func(c *simCluster) error {
		for _, value := range []string{"", "second"} {
			if err := c.write(0, simKey(0), value); err != nil {
				return err
			}
			if err := c.agree(time.Hour); err != nil {
				return err
			}
		}
		c.sleep(time.Hour)
		c.partition(1 << 2)
		if err := c.write(0, simKey(0), ""); err != nil {
			return err
		}
		c.sleep(simTolerance + 6*time.Hour)
		if err := c.write(0, simKey(0), "third"); err != nil {
			return err
		}
		c.heal()
		c.sleep(time.Hour)
		return nil
	}},
	{"two write anew what was deleted, one of them when it has forgotten that", []state.Rule{state.RuleLevel}, 0, func(c *simCluster) error {
		if err := c.write(0, simKey(0), ""); err != nil {
			return err
		}
		if err := c.agree(time.Hour); err != nil {
			return err
		}
		c.partition(1 << 2)
		if err := c.write(0, simKey(0), "while it is remembered"); err != nil {
			return err
		}
		c.sleep(simTolerance + 6*time.Hour)
		if err := c.write(2, simKey(0), "later"); err != nil {
			return err
		}
		c.heal()
		c.sleep(time.Hour)
		return nil
	}},
	{"one writes on what is deleted while it is away", []state.Rule{state.RuleHold}, 0, func(c *simCluster) error {
		c.partition(1 << 2)
		if err := c.write(2, simKey(0), "apart"); err != nil {
			return err
		}
		c.sleep(10 * time.Minute)
		if err := c.write(0, simKey(0), ""); err != nil {
			return err
		}
		c.sleep(3 * simTimeout)
		c.heal()
		c.sleep(time.Hour)
		return nil
	}},
}

// deleteWhileFrozen deletes half of the keys while a node is frozen.
func (c *simCluster) deleteWhileFrozen(lasts time.Duration) error {
	c.freeze(2)
	c.sleep(10 * time.Minute)
	if err := deleteHalf(c, 0); err != nil {
		return err
	}
	c.sleep(lasts)
	c.thaw(2)
	c.sleep(time.Hour)
	return nil
}

func TestSimulatedOrders(t *testing.T) {
	for _, o := range simOrders {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			if err := o.run(t, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSimulationNotices breaks one rule after the other: the simulation must
// notice each.
func TestSimulationNotices(t *testing.T) {
	for _, o := range simOrders {
		for _, rule := range o.rules {
			t.Run(string(rule), func(t *testing.T) {
				t.Parallel()
				if o.run(t, rule) == nil {
					t.Error("nothing was noticed")
				}
			})
		}
	}
}
