package kit_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv/driver/kit"
)

func TestUntilSilent(t *testing.T) {
	for name, test := range map[string]struct {
		pauses []time.Duration // before each byte
		want   error
	}{
		"slow":         {[]time.Duration{9 * time.Second, 9 * time.Second, 9 * time.Second}, nil},
		"stands still": {[]time.Duration{time.Second, 11 * time.Second}, kit.ErrSilent},
		"never begins": {[]time.Duration{11 * time.Second}, kit.ErrSilent},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w := io.Pipe()
				go func() {
					for _, pause := range test.pauses {
						time.Sleep(pause)
						_, _ = w.Write([]byte("x"))
					}
					_ = w.Close()
				}()
				body := kit.UntilSilent(r, 10*time.Second, func() { _ = r.CloseWithError(errors.New("cancelled")) })
				got, err := io.ReadAll(body)
				if !errors.Is(err, test.want) || err == nil && len(got) != len(test.pauses) {
					t.Errorf("%d bytes, %v; want %v", len(got), err, test.want)
				}
				if err := body.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute) // a timer that is left would fire
			})
		})
	}
}

// ended is a body that closes with an error.
type ended struct{ io.Reader }

func (ended) Close() error { return io.ErrUnexpectedEOF }

func TestUntilSilentEnds(t *testing.T) {
	cancelled := 0
	body := kit.UntilSilent(ended{strings.NewReader("")}, time.Minute, func() { cancelled++ })
	if err := body.Close(); !errors.Is(err, io.ErrUnexpectedEOF) || cancelled != 1 {
		t.Errorf("%v, cancelled %d times", err, cancelled)
	}
}
