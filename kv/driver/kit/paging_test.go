package kit_test

import (
	"testing"

	"github.com/polykv/polykv/kv/driver/kit"
)

func TestPageSize(t *testing.T) {
	for _, test := range []struct{ bytes, n, size, want int }{
		{8 << 20, 64, 64 << 10, 8 << 10},
		{8 << 20, 64, 64 << 20, 8},
		{8 << 20, 1, 64 << 20, 1},
		{8 << 20, 0, 0, 8 << 20},
		{1 << 30, 1 << 30, 1, 1 << 60},
	} {
		if got := kit.PageSize(test.bytes, test.n, test.size); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}
