package kit

import (
	"context"
	"errors"
	"testing"
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
}
