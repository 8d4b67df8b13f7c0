package memberlist

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// inSimulation runs f on a cluster of three in virtual time, then mends the cluster
// and checks what is left. Half of keys exist everywhere when f begins.
func inSimulation(t *testing.T, f func(t *testing.T, c *simCluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newSimCluster(3, 1, &log)
		defer c.close()
		for i := range c.slots {
			must(t, c.start(i))
		}
		c.sleep(10 * time.Minute)
		for k := range simKeys {
			must(t, c.write(k%3, simKey(k), "first"))
		}
		must(t, c.agree(time.Hour))
		f(t, c)
		must(t, c.mend())
		if err := c.agree(12 * time.Hour); err != nil {
			t.Errorf("%v\n%s", err, log.String())
		}
		for _, problem := range c.history.check(c.slots[0].node, false) {
			t.Error(problem)
		}
	})
}

const simKeys = 40

func simKey(k int) string {
	if k%4 == 3 {
		return fmt.Sprintf("%s/e%d", simMap, k)
	}
	return fmt.Sprintf("key-%d", k)
}

// deleteHalf deletes on a slot the keys with even numbers, and writes others.
func deleteHalf(t *testing.T, c *simCluster, slot int) {
	t.Helper()
	for k := range simKeys {
		if k/4%2 == 0 {
			must(t, c.write(slot, simKey(k), ""))
		}
	}
	for k := range 100 {
		must(t, c.write(slot, fmt.Sprintf("new-%d", k), "while one was away"))
	}
}

// Away for longer than tombstones are kept while all are there, and back over a
// slow line.
func TestSimAwayLongerThanTombstoneTimeout(t *testing.T) {
	inSimulation(t, func(t *testing.T, c *simCluster) {
		c.partition(1 << 2)
		c.sleep(10 * time.Minute)
		deleteHalf(t, c, 0)
		c.sleep(3 * simTimeout)
		c.fabric.SetRate(200)
		c.heal()
		c.sleep(time.Hour)
	})
}

// A process that was frozen saw nobody fail.
func TestSimFrozenLongerThanTombstoneTimeout(t *testing.T) {
	inSimulation(t, func(t *testing.T, c *simCluster) {
		c.freeze(2)
		c.sleep(10 * time.Minute)
		deleteHalf(t, c, 0)
		c.sleep(3 * simTimeout)
		c.thaw(2)
		c.sleep(time.Hour)
	})
}

// Beyond the tolerance, one that was frozen against two that were right.
func TestSimFrozenBeyondTolerance(t *testing.T) {
	inSimulation(t, func(t *testing.T, c *simCluster) {
		c.freeze(2)
		c.sleep(10 * time.Minute)
		deleteHalf(t, c, 0)
		c.sleep(2 * simTolerance)
		c.thaw(2)
		c.sleep(time.Hour)
	})
}

// A member that the others have forgotten is back.
func TestSimForgottenMemberReturns(t *testing.T) {
	inSimulation(t, func(t *testing.T, c *simCluster) {
		c.partition(1 << 2)
		c.sleep(10 * time.Minute)
		deleteHalf(t, c, 0)
		c.sleep(simTolerance + 6*time.Hour) // failed members are remembered for an hour more
		c.heal()
		c.sleep(time.Hour)
	})
}

// A new process of the same name runs while the old one is cut off.
func TestSimSameNameWhileCutOff(t *testing.T) {
	inSimulation(t, func(t *testing.T, c *simCluster) {
		old := c.slots[2]
		c.partition(1 << 2)
		c.sleep(10 * time.Minute)
		c.slots = append(c.slots, &simSlot{name: old.name, addr: nextAddr(old), clock: &simClock{}})
		must(t, c.start(3))
		c.sleep(10 * time.Minute)
		deleteHalf(t, c, 0)
		c.sleep(3 * simTimeout)
		c.heal()
		c.sleep(time.Hour)
	})
}
