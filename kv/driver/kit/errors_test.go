package kit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

func TestJoinContext(t *testing.T) {
	for said, want := range map[string]string{
		"connection refused":             "context deadline exceeded: connection refused",
		context.DeadlineExceeded.Error(): "context deadline exceeded", // another library's error of that text
	} {
		err := JoinContext(context.DeadlineExceeded, errors.New(said))
		if !errors.Is(err, context.DeadlineExceeded) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	has := errors.Join(io.EOF, context.Canceled)
	if err := JoinContext(context.Canceled, has); err != has { //nolint:errorlint // the very error
		t.Errorf("an error that has it became %v", err)
	}
}

func TestWrap(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end()
	refused := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	for _, test := range []struct {
		name             string
		ctx              context.Context
		err, class, want error
		permanent        bool
	}{
		{"success", over, nil, driver.ErrFull, nil, false},
		{"ctx", over, io.EOF, driver.ErrFull, context.Canceled, false},
		{"class", t.Context(), refused, driver.ErrFull, driver.ErrFull, true},
		{"certificate", t.Context(), refused, nil, refused, true},
		{"another", t.Context(), io.EOF, nil, io.EOF, false},
	} {
		err := Wrap(test.ctx, test.err, test.class)
		if !errors.Is(err, test.want) || !errors.Is(err, test.err) || driver.IsPermanent(err) != test.permanent {
			t.Errorf("%s: %v, permanent: %v", test.name, err, driver.IsPermanent(err))
		}
	}
}

func TestIsAny(t *testing.T) {
	if err := errors.Join(io.EOF, io.ErrClosedPipe); !IsAny(err, io.ErrNoProgress, io.ErrClosedPipe) || IsAny(err, io.ErrNoProgress) || IsAny(err) {
		t.Error("wrong")
	}
}

func TestUntil(t *testing.T) {
	for name, ends := range map[string]func(call, drivers, end context.CancelFunc){
		"the call's":   func(call, _, _ context.CancelFunc) { call() },
		"the driver's": func(_, drivers, _ context.CancelFunc) { drivers() },
		"its own end":  func(_, _, end context.CancelFunc) { end() },
	} {
		call, endCall := context.WithCancel(t.Context())
		drivers, endDriver := context.WithCancel(t.Context())
		ctx, end := Until(call, drivers)
		if ctx.Err() != nil {
			t.Errorf("%s: ended at once", name)
		}
		ends(endCall, endDriver, end)
		<-ctx.Done()
		end()
		endCall()
		endDriver()
	}
}

// A context that is over leaves nothing with the driver's, which lives long.
func TestUntilLeavesNothing(t *testing.T) {
	of := &counting{Context: t.Context(), done: make(chan struct{})}
	_, end := Until(t.Context(), of)
	if end(); of.stopped != 1 {
		t.Errorf("%d of 1 functions were taken back", of.stopped)
	}
}

// counting counts the functions that AfterFunc takes back.
type counting struct {
	context.Context
	done    chan struct{}
	stopped int
}

func (c *counting) Done() <-chan struct{} { return c.done }

func (c *counting) AfterFunc(func()) func() bool { return func() bool { c.stopped++; return true } }

func TestNoRoom(t *testing.T) {
	for text, want := range map[string]bool{
		"write /a: no space left on device": true, "disk quota exceeded": true, "There is not enough space on the disk.": true, "no such file": false,
	} {
		if NoRoom(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}
