package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv/multi/internal/side"
)

// From every phase to every stage, or a refusal where there is no way; and a
// second run finds nothing to do.
func TestConverge(t *testing.T) {
	ends := map[Stage]string{
		StageMirroring: "primary standby", StageCopied: "primary standby", StageMoved: "standby primary", StageFinished: "retired primary", StageGivenUp: "primary retired",
	}
	for _, states := range []string{
		"none none", "primary none", "primary standby", "sealed standby", "sealed filling", "sealed primary", "standby primary", "standby sealed", "filling sealed",
		"primary sealed", "retired primary", "primary retired", "sealed retired", "retired sealed", "primary filling", "filling primary", "primary primary",
	} {
		for stage, want := range ends {
			t.Run(fmt.Sprintf("%s/%s", states, stage), func(t *testing.T) {
				r := newRig(t)
				r.put(0, "k", "v")
				r.put(1, "k", "v")
				r.set(states)
				m := r.migration(Options{AllowKeys: true})
				_, err := m.Converge(t.Context(), stage, ConvergeOptions{})
				over := strings.HasPrefix(states, "retired") // the source is retired for good
				switch {
				case over && stage == StageMoved:
					want = "retired primary"
				case over && want != "retired primary":
					wantErr(t, err, ErrRefused)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				r.want(want)
				again, err := m.Converge(t.Context(), stage, ConvergeOptions{})
				for _, result := range again {
					if len(result.Changes) > 0 {
						t.Errorf("the second run changed %v", result.Changes)
					}
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	_, err := newRig(t).migration(Options{}).Converge(t.Context(), "done", ConvergeOptions{})
	if err == nil || !strings.Contains(err.Error(), `"done" is not allowed; it must be one of: mirroring, copied, moved, finished, given-up`) {
		t.Errorf("%v", err)
	}
}

// It may be killed anywhere and run again.
func TestConvergeIsKilledAtEveryWrite(t *testing.T) {
	for n := 1; n < 15; n++ {
		r := newRig(t)
		r.put(0, "k", "v")
		r.killAt(n)
		_, err := r.migration(Options{}).Converge(t.Context(), StageFinished, ConvergeOptions{})
		if err == nil {
			if n < 9 {
				t.Errorf("it makes only %d writes", n)
			}
			return
		}
		if _, err := r.again().migration(Options{}).Converge(t.Context(), StageFinished, ConvergeOptions{}); err != nil {
			t.Errorf("killed at %d: %v", n, err)
		}
		r.want("retired primary")
		if r.all(1) != "k=v " {
			t.Errorf("killed at %d: %s", n, r.all(1))
		}
	}
}

// It waits until the fleet is ready, and says for what.
func TestConvergeWaitsUntilReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(0, "k", "v")
		m := r.careful(Options{AllowMisconfigured: true})
		_, err := m.Converge(t.Context(), StageMoved, ConvergeOptions{Wait: 10 * time.Second})
		wantErr(t, err, ErrRefused)
		r.want("primary standby")
		var reasons []error
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var client sync.WaitGroup
		client.Go(func() {
			time.Sleep(time.Minute)
			for beat := uint64(1); ctx.Err() == nil; beat++ { // a client that is rolled out at last
				h := Heartbeat{Instance: "late", Beat: beat, Seen: time.Now(), Primary: "old"}
				for _, s := range r.sides {
					record, version, err := s.ReadRecord(ctx)
					if err != nil {
						return
					}
					h.Sees = append(h.Sees, side.Sight{Store: s.Name(), Migration: record.Migration, Version: uint64(version)})
				}
				for _, s := range r.sides {
					if s.WriteHeartbeat(ctx, h) != nil {
						return
					}
				}
				time.Sleep(time.Second)
			}
		})
		_, err = m.Converge(ctx, StageMoved, ConvergeOptions{Wait: 30 * time.Minute, Waiting: func(err error) { reasons = append(reasons, err) }})
		if err != nil || len(reasons) != 1 || !errors.Is(reasons[0], ErrRefused) {
			t.Errorf("%v after %v", err, reasons)
		}
		cancel()
		client.Wait()
		r.want("standby primary")
	})
}
