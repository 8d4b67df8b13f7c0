package spread

import (
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
)

const (
	// reorderDelay is how long a frame may be overtaken by later ones before
	// it is taken for lost.
	reorderDelay = 15 * time.Millisecond

	// askDelay is how long after asking for a frame it is asked for again,
	// doubled each time, askTries times.
	askDelay = 60 * time.Millisecond
	askTries = 5

	// maxOrigins bounds what is remembered of nodes that send. Frames of
	// further ones are taken in without knowing what is missing.
	maxOrigins = 8192

	// originRetention is how long a node that is no member is remembered, so
	// that what others relay of its last frames is still known.
	originRetention = 2 * time.Minute
)

// origin is what this node knows about the frames of another.
type origin struct {
	window
	heard time.Time // when its last frame came
	due   time.Time // when to ask for what is missing; zero: nothing is
	tries int
	left  int // holes when it was asked last
}

// origins are all of them, by instance.
type origins struct {
	kick chan struct{} // of capacity 1: a gap appeared

	mu   sync.Mutex
	all  map[uint64]*origin
	gaps map[uint64]*origin // those that are due some time

	heard time.Time // when the last frame of anybody came
}

func newOrigins() *origins {
	return &origins{kick: make(chan struct{}, 1), all: map[uint64]*origin{}, gaps: map[uint64]*origin{}}
}

// mark notes frame seq of an instance, or, with tail, that it exists.
func (o *origins) mark(instance, seq uint64, tail bool, now time.Time) (fresh, lost bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from := o.all[instance]
	if from == nil {
		if len(o.all) >= maxOrigins {
			return true, false
		}
		from = &origin{heard: now}
		o.all[instance] = from
	}
	if tail {
		lost = from.reach(seq)
	} else {
		fresh, lost = from.mark(seq)
		from.heard, o.heard = now, now
	}
	if from.holes > 0 && from.due.IsZero() {
		from.due, from.tries, from.left = now.Add(reorderDelay), 0, from.holes
		o.gaps[instance] = from
		wait.Signal(o.kick)
	}
	return fresh, lost
}

// heardSince reports whether a frame of changes came after t.
func (o *origins) heardSince(t time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.heard.After(t)
}

// recent returns the newest frames of origins that were heard after t, up to
// limit.
func (o *origins) recent(t time.Time, limit int) []lastFrame {
	o.mu.Lock()
	defer o.mu.Unlock()
	var frames []lastFrame
	if !o.heard.After(t) {
		return nil
	}
	for instance, from := range o.all {
		if len(frames) >= limit {
			break
		}
		if from.heard.After(t) {
			frames = append(frames, lastFrame{instance, from.max})
		}
	}
	return frames
}

// giveUp forgets that frames of an instance are missing.
func (o *origins) giveUp(instance uint64, s span) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if from := o.all[instance]; from != nil {
		from.giveUp(s)
	}
}

// A question is what to ask a node for.
type question struct {
	instance uint64
	spans    []span
	hopeless bool // it was asked often enough
}

// overdue returns what has to be asked for now, and when to look again; zero:
// when there is a new gap.
func (o *origins) overdue(now time.Time) (questions []question, next time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for instance, from := range o.gaps {
		if from.holes == 0 {
			from.due = time.Time{}
			delete(o.gaps, instance)
			continue
		}
		if !from.due.After(now) {
			if from.holes < from.left { // answers are coming in
				from.tries = 0
			}
			q := question{instance: instance, spans: from.missing(maxSpans)}
			if from.tries++; from.tries > askTries {
				q.hopeless = true
				from.giveUp(span{1, from.max})
			}
			from.left = from.holes
			from.due = now.Add(askDelay << min(from.tries, askTries))
			questions = append(questions, q)
		}
		if next.IsZero() || from.due.Before(next) {
			next = from.due
		}
	}
	return questions, next
}

// forget removes the origins that are no members any more.
func (o *origins) forget(now time.Time, isMember func(instance uint64) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for instance, from := range o.all {
		if now.Sub(from.heard) > originRetention && !isMember(instance) {
			delete(o.all, instance)
			delete(o.gaps, instance)
		}
	}
}

// missing returns how many frames are being asked for.
func (o *origins) missing() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, from := range o.gaps {
		n += from.holes
	}
	return n
}

// runRepair is the goroutine that asks for missing frames.
func (s *Spread) runRepair() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.origins.kick:
		case <-timer.C:
		}
		questions, next := s.origins.overdue(time.Now())
		for _, q := range questions {
			s.ask(q)
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

func (s *Spread) ask(q question) {
	peer, ok := s.member(q.instance)
	switch {
	case !ok: // it is gone, and others have what reached anybody
		s.origins.giveUp(q.instance, span{1, 1<<64 - 1})
	case q.hopeless:
		s.count.givenUp.Add(1)
		s.comparer.soon(peer)
	default:
		frame := appendHeader(make([]byte, 0, 128), frameAsk, s.self.Instance)
		for _, sp := range q.spans {
			frame = appendSpan(frame, sp)
		}
		s.count.asked.Add(1)
		s.transmit(frame, peer)
		s.logFrame(frameAsk, q.spans[0].from, true, &peer)
	}
}
