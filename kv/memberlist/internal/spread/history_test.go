package spread

import (
	"bytes"
	"testing"
)

func TestHistory(t *testing.T) {
	var h history
	if frames, gone := h.get(span{1, 10}); len(frames) != 0 || gone != (span{}) {
		t.Fatalf("an empty history has %d frames, gone %v", len(frames), gone)
	}
	for seq := uint64(1); seq <= historyFrames+10; seq++ {
		h.add(seq, []byte{byte(seq)})
	}
	frames, gone := h.get(span{9, 12})
	if len(frames) != 2 || frames[0][0] != 11 || frames[1][0] != 12 || gone != (span{9, 10}) {
		t.Fatalf("9 to 12: frames %v, gone %v", frames, gone)
	}
	frames, gone = h.get(span{2, 3})
	if len(frames) != 0 || gone != (span{2, 3}) {
		t.Fatalf("2 to 3: frames %v, gone %v", frames, gone)
	}
	frames, _ = h.get(span{historyFrames + 10, 1<<64 - 1})
	if len(frames) != 1 {
		t.Fatalf("a request beyond the end got %d frames, want the last", len(frames))
	}
}

func TestHistoryBytes(t *testing.T) {
	var h history
	frame := bytes.Repeat([]byte{1}, historyBytes/4)
	for seq := uint64(1); seq <= 9; seq++ {
		h.add(seq, frame)
	}
	if h.bytes != historyBytes || h.oldest != 6 {
		t.Fatalf("%d bytes from frame %d, want %d from 6", h.bytes, h.oldest, historyBytes)
	}
	h.add(10, bytes.Repeat([]byte{1}, 2*historyBytes))
	if frames, _ := h.get(span{10, 10}); len(frames) != 1 || h.oldest != 10 {
		t.Fatalf("the newest frame is kept whatever its size: %d frames from %d", len(frames), h.oldest)
	}
}
