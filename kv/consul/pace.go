package consul

import "time"

const (
	// Under constant change a watch pauses for costFactor times what the last
	// answer cost, so that it spends a ninth of its time on answers, its
	// server less, and short pauses add little delay. From longPause on, the
	// factor shrinks to keep the delay within a second, down to minFactor.
	costFactor = 8
	longPause  = 500 * time.Millisecond
	minFactor  = 2

	// Consul wakes a watch for changes outside its range too: of an empty
	// range, for any change nearby. The pause after such an answer doubles
	// from firstIdle to lastIdle, and is forgotten after calm.
	firstIdle = time.Millisecond
	lastIdle  = 256 * time.Millisecond
	calm      = time.Second
)

// pace spaces the queries of a watch. The zero value is ready.
type pace struct {
	next time.Time // when the next query may begin
	idle time.Duration
}

// answered takes in what an answer cost, how long it was waited for and
// whether it brought anything.
func (p *pace) answered(news bool, took, cost time.Duration) {
	pause := max(min(costFactor*cost, longPause), minFactor*cost)
	switch {
	case news:
		p.idle = 0
	case took >= calm:
		p.idle, pause = 0, 0
	default:
		p.idle = min(max(2*p.idle, firstIdle), lastIdle)
	}
	p.next = time.Now().Add(max(pause, p.idle))
}
