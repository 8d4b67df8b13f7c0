package spread

import "sync"

// history holds the frames that this node sent last, so that it can send
// them again to a peer that missed some. It is bounded in number and bytes.
type history struct {
	mu     sync.Mutex
	frames [historyFrames][]byte // frame seq is at seq % historyFrames
	oldest uint64                // the lowest sequence held
	next   uint64                // the sequence after the highest one
	bytes  int
}

const (
	historyFrames = windowSize
	historyBytes  = 2 << 20
)

// add appends the frame with the next sequence. The history keeps it.
func (h *history) add(seq uint64, frame []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.oldest == 0 {
		h.oldest = seq
	}
	h.next = seq + 1
	h.bytes += len(frame)
	for h.next-h.oldest > historyFrames || h.bytes > historyBytes && h.oldest < seq {
		h.drop()
	}
	h.frames[seq%historyFrames] = frame
}

func (h *history) drop() {
	slot := &h.frames[h.oldest%historyFrames]
	h.bytes -= len(*slot)
	*slot = nil
	h.oldest++
}

// get returns the frames of s that are still held, and which are not: they
// are always the oldest.
func (h *history) get(s span) (frames [][]byte, gone span) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.from < h.oldest {
		gone = span{s.from, min(s.to, h.oldest-1)}
		s.from = h.oldest
	}
	for seq := s.from; seq <= s.to && seq < h.next; seq++ {
		frames = append(frames, h.frames[seq%historyFrames])
	}
	return frames, gone
}
