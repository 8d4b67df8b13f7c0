package spread

import (
	"slices"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

func testPeer(id string) network.Peer { return network.Peer{ID: id, Name: id} }

// idle is a comparer that nobody runs.
func idleComparer() *comparer {
	s := &Spread{}
	s.members.now.Store(&memberSet{})
	return newComparer(s)
}

// TestDoubtPasses answers the first check with equal digests.
func TestDoubtPasses(t *testing.T) {
	c, now, peer := idleComparer(), time.Now(), testPeer("a")
	c.doubt(peer, now)
	if check, compare, next := c.due(now); len(check) != 0 || compare != nil || next.Sub(now) < checkDelay {
		t.Fatalf("checks %v, compares with %v before the changes under way had time to arrive; next %v", check, compare, next.Sub(now))
	}
	check, compare, _ := c.due(now.Add(2 * checkDelay))
	if len(check) != 1 || compare != nil {
		t.Fatalf("checks %v, compares with %v", check, compare)
	}
	c.answered(peer, true)
	if c.size() != 0 {
		t.Error("the doubt is left")
	}
	c.answered(peer, false) // late
	if c.size() != 0 {
		t.Error("a late answer is a doubt")
	}
}

// TestDoubtPersists answers every check with other digests, or not at all.
func TestDoubtPersists(t *testing.T) {
	for name, answers := range map[string]bool{"differs": true, "silent": false} {
		t.Run(name, func(t *testing.T) {
			c, now, peer := idleComparer(), time.Now(), testPeer("a")
			c.doubt(peer, now)
			checked := 0
			for range 2 * checks {
				now = now.Add(2 * checkDelay)
				check, compare, _ := c.due(now)
				if compare != nil {
					break
				}
				checked += len(check)
				if answers && len(check) > 0 {
					c.answered(peer, false)
				}
			}
			if checked != checks {
				t.Errorf("checked %d times, want %d", checked, checks)
			}
			if c.running != 1 {
				t.Error("no comparison was begun")
			}
		})
	}
}

// TestDoubtsAreLimited has all peers differ: few are checked at once, and none
// soon after a comparison that found nothing.
func TestDoubtsAreLimited(t *testing.T) {
	c, now := idleComparer(), time.Now()
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		c.doubt(testPeer(id), now)
	}
	if c.size() != maxDoubts {
		t.Errorf("%d peers are doubted, want %d", c.size(), maxDoubts)
	}
	c = idleComparer()
	var pauses []time.Duration
	for range 6 {
		c.compared(testPeer("a"), false, now)
		pauses = append(pauses, c.notUntil.Sub(now))
	}
	if !slices.IsSorted(pauses[:3]) || pauses[5] < maxComparePause || pauses[5] > 2*maxComparePause {
		t.Errorf("pauses after comparisons that found nothing: %v", pauses)
	}
	c.doubt(testPeer("a"), now)
	if check, _, next := c.due(now.Add(2 * checkDelay)); len(check) != 0 || next.Before(now.Add(maxComparePause)) {
		t.Errorf("checks %v in the pause", check)
	}
	c.compared(testPeer("a"), true, now)
	if c.notUntil.After(now) {
		t.Error("a pause after a comparison that found something")
	}
}

// TestCertainty compares without checks, with maxComparing at once.
func TestCertainty(t *testing.T) {
	c := idleComparer()
	for _, id := range []string{"a", "b", "c"} {
		c.soon(testPeer(id))
		c.soon(testPeer(id))
	}
	now := time.Now().Add(2 * compareDelay)
	var compared []string
	for range 10 {
		if _, peer, _ := c.due(now); peer != nil {
			compared = append(compared, peer.ID)
		}
	}
	if len(compared) != maxComparing {
		t.Errorf("compares with %v at once, want %d", compared, maxComparing)
	}
	c.compared(testPeer("a"), true, now)
	if _, peer, _ := c.due(now); peer == nil {
		t.Error("the third is not compared with after one of the others ended")
	}
	c.ended["a"] = now
	c.soon(testPeer("a"))
	if d := c.doubts["a"]; d.due.Before(now.Add(compareAgain)) {
		t.Errorf("compares again with the same peer after %v", d.due.Sub(now))
	}
	c.left(testPeer("a"))
	c.expect(7)
	c.joined(network.Peer{ID: "g", Instance: 7})
	c.joined(network.Peer{ID: "h", Instance: 8})
	if c.doubts["g"] == nil || !c.doubts["g"].sure || c.doubts["h"] != nil {
		t.Errorf("of two that joined, the expected one is compared with: %v", c.doubts)
	}
	c.left(network.Peer{ID: "g"})
	if c.size() != 0 {
		t.Errorf("%d peers are left", c.size())
	}
}

func TestLimiter(t *testing.T) {
	var l network.Limiter
	now := time.Now()
	if !l.Allow("a", now) || l.Allow("a", now.Add(time.Second)) || !l.Allow("b", now) || !l.Allow("a", now.Add(time.Minute)) {
		t.Error("want each cause once a minute")
	}
}

func TestLag(t *testing.T) {
	m := ring[time.Duration]{size: lagSamples}
	if got := lagOf(m.list()); got != (Lag{}) {
		t.Errorf("nothing: %+v", got)
	}
	for i := range 2 * lagSamples {
		m.add(max(0, time.Duration(i-lagSamples)*time.Millisecond))
	}
	m.add(0)
	want := Lag{Changes: lagSamples, P50: 512 * time.Millisecond, P99: 1013 * time.Millisecond, Max: 1023 * time.Millisecond}
	if got := lagOf(m.list()); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
