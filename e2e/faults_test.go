package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Random faults, on clusters of three servers, under clients that work and
// watch. The plan of a round follows from its seed, which is printed; what the
// servers make of it is up to the moment.
//
//	POLYKV_SEED=n          only the round of this seed
//	POLYKV_SOAK=1          longer rounds, one after another: of the seeds that once failed, then of others
//	POLYKV_SOAK_TIME=1h    for so long on each backend; default 10m
func TestRandomFaults(t *testing.T) { onEachAmongOthers(t, randomFaults) }

func randomFaults(t *testing.T, b backend) {
	a, total := newArena(t, b, false), newTally()
	defer func() { t.Logf("%s:\n%s", b.name, total) }()
	for _, p := range b.always {
		if os.Getenv("POLYKV_SEED") != "" {
			break
		}
		t.Log(p.what)
		a.run(t, 0, p.plan, total)
	}
	begun := time.Now()
	first, again := firstSeed(t)
	seeds := []uint64{first}
	if again {
		seeds = append(slices.Clone(b.failed), first)
	}
	for {
		for _, seed := range seeds {
			t.Log(replay(seed))
			p := draw(seed, append(serverChoices(), b.storeChoices...), networkChoices(), roundLasts())
			if !a.run(t, seed, p, total) || !again || time.Since(begun) > soakTime(t) {
				return
			}
		}
		seeds = []uint64{rand.Uint64()}
	}
}

// What a secured cluster adds: rights that are taken away and given back.
// Neither makes a watch tell of deletions.
func TestRandomFaultsSecured(t *testing.T) { onEachAmongOthers(t, randomFaultsSecured) }

func randomFaultsSecured(t *testing.T, b backend) {
	a, total := newArena(t, b, true), newTally()
	defer func() { t.Logf("%s:\n%s", b.name, total) }()
	choices := []choice{
		{6, revoke, oneClient, short, 2 * second},
		{3, revoke, all, short, 2 * second},
		{1, kill, leader, short, second},
		{1, restart, follower, short, second},
		{1, stop, follower, short, 2 * second},
	}
	begun := time.Now()
	for seed, again := firstSeed(t); ; seed = rand.Uint64() {
		t.Log(replay(seed))
		p := draw(seed, choices, networkChoices(), roundLasts()/2)
		p.Servers = append([]fault{{revoke, all, short, short, seed}}, p.Servers...)
		if !a.run(t, seed, p, total) || !again || time.Since(begun) > soakTime(t)/4 {
			return
		}
	}
}

// A namedPlan is carried out in every run. One that once failed holds what it
// takes to fail again, and no more.
type namedPlan struct {
	what string
	plan plan
}

// firstSeed returns the seed to begin with, and whether others follow.
func firstSeed(t testing.TB) (seed uint64, again bool) {
	text := os.Getenv("POLYKV_SEED")
	if text == "" {
		return rand.Uint64(), os.Getenv("POLYKV_SOAK") != ""
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("POLYKV_SEED: %v", err)
	}
	return seed, false
}

// replay is how a seed's round is run again.
func replay(seed uint64) string {
	soak := ""
	if os.Getenv("POLYKV_SOAK") != "" {
		soak = "POLYKV_SOAK=1 "
	}
	return fmt.Sprintf("%sPOLYKV_SEED=%d", soak, seed)
}

// roundLasts is for how long things go wrong in one round.
func roundLasts() time.Duration {
	if os.Getenv("POLYKV_SOAK") != "" {
		return 30 * time.Second
	}
	return 12 * time.Second
}

func soakTime(t testing.TB) time.Duration {
	text := os.Getenv("POLYKV_SOAK_TIME")
	if text == "" {
		return 10 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("POLYKV_SOAK_TIME: %v", err)
	}
	return d
}
