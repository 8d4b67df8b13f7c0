package spread

// windowSize is how many frames of one origin are told apart. At the pace
// limit of an origin (see outbox) it is about a tenth of a second and more.
const windowSize = 1024

// A span is the sequences from to to, both included.
type span struct{ from, to uint64 }

// A window tells which of the newest frames of one origin were seen: which
// are duplicates, and which are missing.
type window struct {
	max   uint64 // the highest sequence known of
	ask   uint64 // sequences below were sent before this node knew the origin; 0: it doesn't yet
	holes int    // unseen sequences in [ask, max] that are within the window
	bits  [windowSize / 64]uint64
}

func (w *window) seen(seq uint64) bool {
	i := seq % windowSize
	return w.bits[i/64]&(1<<(i%64)) != 0
}

func (w *window) set(seq uint64, seen bool) {
	i := seq % windowSize
	if seen {
		w.bits[i/64] |= 1 << (i % 64)
	} else {
		w.bits[i/64] &^= 1 << (i % 64)
	}
}

// old reports whether seq is too far back to be told apart.
func (w *window) old(seq uint64) bool { return w.max >= windowSize && seq <= w.max-windowSize }

// mark notes that frame seq is here. fresh is false if it was here before, or
// may have been; lost is true if a frame that was never seen left the window.
func (w *window) mark(seq uint64) (fresh, lost bool) {
	switch {
	case w.ask == 0:
		w.max, w.ask = seq, seq
	case seq > w.max:
		lost = w.slide(seq)
	case w.old(seq) || w.seen(seq):
		return false, false
	case seq >= w.ask:
		w.holes--
	}
	w.set(seq, true)
	return true, lost
}

// reach notes that frames up to seq exist, without having seen them.
func (w *window) reach(seq uint64) (lost bool) {
	if w.ask == 0 { // all of them were sent before
		w.max, w.ask = seq, seq+1
		return false
	}
	if seq <= w.max {
		return false
	}
	lost = w.slide(seq)
	w.holes++ // seq itself
	return lost
}

// slide moves the window's end to seq, which is beyond it. Frames in between
// become holes; seq itself does not.
func (w *window) slide(seq uint64) (lost bool) {
	if seq-w.max >= windowSize {
		*w = window{max: seq, ask: seq}
		return true
	}
	for s := w.max + 1; s <= seq; s++ {
		if s > windowSize && s-windowSize >= w.ask && !w.seen(s) {
			w.holes--
			lost = true
		}
		w.set(s, false)
	}
	w.holes += int(seq - w.max - 1)
	w.max = seq
	return lost
}

// missing returns up to limit spans of frames that exist and were not seen.
func (w *window) missing(limit int) []span {
	if w.holes == 0 {
		return nil
	}
	first := w.ask
	if w.max >= windowSize {
		first = max(first, w.max-windowSize+1)
	}
	var spans []span
	for s := first; s <= w.max; s++ {
		if w.seen(s) {
			continue
		}
		if n := len(spans); n > 0 && spans[n-1].to == s-1 {
			spans[n-1].to = s
		} else if n == limit {
			break
		} else {
			spans = append(spans, span{s, s})
		}
	}
	return spans
}

// giveUp counts every frame of s as seen: nobody has it any more.
func (w *window) giveUp(s span) {
	if w.ask == 0 {
		return
	}
	last := min(s.to, w.max)
	if last >= windowSize && s.from <= last-windowSize {
		s.from = last - windowSize + 1
	}
	for seq := max(s.from, w.ask); seq <= last; seq++ {
		if !w.old(seq) && !w.seen(seq) {
			w.set(seq, true)
			w.holes--
		}
	}
}
