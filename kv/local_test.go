package kv_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// lineRig is a client of a store inside the process, on which calls that lose
// to others line up.
type lineRig struct {
	*rig
	client kv.Client
}

func newLineRig(t *testing.T, opts kv.Options) *lineRig {
	t.Helper()
	r := newRig(t, kv.Options{})
	c := kv.New(r.data.Open(), stringCodec, &opts)
	t.Cleanup(func() {
		if n := kv.TurnsLen(c, "n"); n != -1 {
			t.Errorf("a line of %d calls is left", n)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &lineRig{r, c}
}

// loser is a CAS that increments "n" and loses its first try to another client.
// In its second one, it calls turn.
func (r *lineRig) loser(ctx context.Context, turn func()) error {
	tries := 0
	return r.client.CAS(ctx, "n", func(in any) (any, bool, error) {
		switch tries++; tries {
		case 1:
			if err := r.other.CAS(r.t.Context(), "n", increment); err != nil {
				return nil, false, err
			}
		case 2:
			turn()
		}
		return increment(in)
	})
}

// hold has a call take its turn and keep it until release is called. Its result
// comes from the channel.
func (r *lineRig) hold() (release func(), result <-chan error) {
	r.t.Helper()
	inTurn, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() { done <- r.loser(r.t.Context(), func() { close(inTurn); <-goOn }) }()
	receive(r.t, "turn", inTurn)
	return sync.OnceFunc(func() { close(goOn) }), done
}

func TestLosersTakeTurns(t *testing.T) {
	r := newLineRig(t, kv.Options{SlowCallback: time.Hour})
	release, held := r.hold()
	defer release()
	const losers = 5
	results := make(chan error, losers)
	turns := make(chan struct{}, losers)
	for range losers {
		go func() { results <- r.loser(t.Context(), func() { turns <- struct{}{} }) }()
	}
	eventually(t, "all are in the line", func() bool { return kv.TurnsLen(r.client, "n") == losers+1 })
	if n := len(turns); n != 0 {
		t.Errorf("%d calls tried again while it was another's turn", n)
	}
	// Who has not lost doesn't wait: the one whose turn it is loses to it.
	if err := r.client.CAS(t.Context(), "n", increment); err != nil {
		t.Error(err)
	}
	release()
	for range losers {
		if err := receive(t, "result", results); err != nil {
			t.Error(err)
		}
	}
	if err := receive(t, "result of the first", held); err != nil {
		t.Error(err)
	}
	r.want("n", strconv.Itoa(2*(losers+1)+1))
}

func TestLineEndsWithTheCallerOrTheClient(t *testing.T) {
	for _, name := range []string{"ctx", "Close"} {
		t.Run(name, func(t *testing.T) {
			r := newLineRig(t, kv.Options{SlowCallback: time.Hour})
			release, held := r.hold()
			defer release()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			waiting := make(chan error, 1)
			go func() { waiting <- r.loser(ctx, func() { t.Error("it had a turn") }) }()
			eventually(t, "it is in the line", func() bool { return kv.TurnsLen(r.client, "n") == 2 })
			end, want := cancel, context.Canceled
			if name == "Close" {
				end, want = func() { _ = r.client.Close() }, kv.ErrClosed
			}
			end()
			if err := receive(t, "end of the wait", waiting); !errors.Is(err, want) {
				t.Errorf("the waiting call: %v, want %v", err, want)
			}
			release()
			if err := receive(t, "end of the other", held); name == "ctx" && err != nil {
				t.Error(err)
			}
		})
	}
}

// A callback that blocks in its turn holds up nobody for longer than
// SlowCallback, and succeeds in the end.
func TestBlockedTurnHoldsNobodyUp(t *testing.T) {
	r := newLineRig(t, kv.Options{SlowCallback: 10 * time.Millisecond})
	release, held := r.hold()
	defer release()
	for range 3 {
		if err := r.loser(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
	}
	r.want("n", "7")
	release()
	if err := receive(t, "end of the blocked call", held); err != nil {
		t.Error(err)
	}
	r.want("n", "8")
}

func TestTurnEndsWithAPanicOrGoexit(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic":  func() { panic("mine") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			r := newLineRig(t, kv.Options{SlowCallback: time.Hour}) // nobody is rescued by impatience
			ended := make(chan any, 1)
			go func() {
				defer func() { ended <- recover() }()
				_ = r.loser(t.Context(), misbehave)
			}()
			if recovered := receive(t, "end", ended); recovered != nil && recovered != "mine" {
				t.Errorf("recovered %v", recovered)
			}
			if err := r.loser(t.Context(), func() {}); err != nil {
				t.Error(err)
			}
			r.want("n", "3")
		})
	}
}

// Whose turn it is goes to where the others meet as soon as they do.
func TestTurnGivesWayToAGroup(t *testing.T) {
	const slow = time.Hour // by the bubble's clock
	synctest.Test(t, func(t *testing.T) {
		r := newLineRig(t, kv.Options{SlowCallback: slow, ContentionTimeout: 100 * slow})
		inTurn, goOn, inCell, goOnInCell := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
		var released, third time.Time
		var calls sync.WaitGroup
		calls.Go(func() {
			tries := 0
			err := r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
				switch tries++; tries {
				case 2:
					close(inTurn)
					<-goOn
				case 3:
					third = time.Now()
					return increment(in)
				}
				if err := r.other.CAS(t.Context(), "n", increment); err != nil {
					return nil, false, err
				}
				return increment(in)
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-inTurn
		calls.Go(func() {
			if err := r.loser(t.Context(), func() { close(inCell); <-goOnInCell }); err != nil {
				t.Error(err)
			}
		})
		<-inCell // it waited for its turn for as long as it has to
		released = time.Now()
		close(goOn)
		synctest.Wait()
		time.Sleep(2 * slow)
		close(goOnInCell)
		calls.Wait()
		if waited := third.Sub(released); waited < slow/2 {
			t.Errorf("it tried again after %v, beside the one that holds the cell", waited)
		}
		r.want("n", "5")
	})
}

// The time of a callback in its turn is not time in conflict.
func TestSlowTurnIsNoContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLineRig(t, kv.Options{SlowCallback: time.Millisecond, ContentionTimeout: time.Second})
		tries := 0
		err := r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
			if tries++; tries == 2 {
				time.Sleep(time.Hour)
			}
			if tries < kv.LoneTries+5 { // also where the time counts
				if err := r.other.CAS(t.Context(), "n", increment); err != nil {
					return nil, false, err
				}
			}
			return increment(in)
		})
		if err != nil {
			t.Errorf("after %d tries: %v", tries, err)
		}
	})
}

// localHooked is a hooked store that says that it never waits.
type localHooked struct{ *hooked }

func (localHooked) NonBlocking() bool { return true }

// A store that fails is not asked again and again in a turn, but after pauses.
func TestTurnEndsWithAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{})
		store := &hooked{Store: r.data.Open()}
		store.onGet = func(context.Context, driver.GetRequest) error {
			if n := store.gets.Load(); n > 1 && n < 5 {
				return errLost
			}
			return nil
		}
		const pause = time.Minute
		c := kv.New(localHooked{store}, stringCodec, &kv.Options{MinBackoff: pause, MaxBackoff: pause, RetryTimeout: time.Hour})
		defer c.Close()
		begun, tries := time.Now(), 0
		err := c.CAS(t.Context(), "n", func(in any) (any, bool, error) {
			if tries++; tries == 1 {
				r.put(r.other, "n", "1")
			}
			return increment(in)
		})
		if took := time.Since(begun); err != nil || took < pause/2 {
			t.Errorf("CAS = %v after %v with three failures in between, want a pause of about %v", err, took, pause)
		}
		r.want("n", "2")
	})
}

// A callback that always loses, to another client or to itself, is a conflict
// in the end.
func TestLineKeepsTheContentionTimeout(t *testing.T) {
	for _, name := range []string{"another", "itself"} {
		t.Run(name, func(t *testing.T) {
			r := newLineRig(t, kv.Options{SlowCallback: time.Millisecond, ContentionTimeout: 100 * time.Millisecond})
			winner := r.other
			if name == "itself" {
				winner = r.client
			}
			tries := 0
			err := r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
				tries++
				if err := winner.CAS(t.Context(), "n", increment); err != nil {
					return nil, false, err
				}
				return increment(in)
			})
			if !errors.Is(err, kv.ErrConflict) || tries <= 1+kv.LoneTries {
				t.Errorf("%v after %d tries, want ErrConflict", err, tries)
			}
			r.want("n", strconv.Itoa(tries))
		})
	}
}
