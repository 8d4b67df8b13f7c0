package consul

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		var p pace
		for _, test := range []struct {
			what       string
			news       bool
			took, cost time.Duration
			want       time.Duration
		}{
			{"news that cost little", true, ms, 50 * time.Microsecond, 400 * time.Microsecond},
			{"10,000 keys", true, ms, 50 * ms, 400 * ms},
			{"more", true, ms, 100 * ms, 500 * ms},
			{"very many", true, ms, 400 * ms, 800 * ms},
			{"woken for nothing", false, ms, 0, ms},
			{"again", false, ms, 0, 2 * ms},
			{"again", false, ms, 0, 4 * ms},
			{"of a large range", false, ms, 50 * ms, 400 * ms},
			{"again", false, ms, 0, 16 * ms},
			{"again", false, ms, 0, 32 * ms},
			{"again", false, ms, 0, 64 * ms},
			{"again", false, ms, 0, 128 * ms},
			{"again", false, ms, 0, 256 * ms},
			{"again", false, ms, 0, 256 * ms},
			{"news", true, ms, 0, 0},
			{"woken for nothing", false, ms, 0, ms},
			{"a quiet time", false, time.Second, 50 * ms, 0},
			{"hardly a quiet time", false, time.Second - 1, 50 * ms, 400 * ms},
			{"a quiet time", false, 10 * time.Second, 50 * ms, 0},
			{"news after it", true, 10 * time.Second, ms, 8 * ms},
		} {
			now := time.Now()
			p.answered(test.news, test.took, test.cost)
			if got := p.next.Sub(now); got != test.want {
				t.Errorf("%s: %v, want %v", test.what, got, test.want)
			}
		}
	})
}
