package consul

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// A page asks for no more keys than the server takes in one request, with the
// longest keys and those that JSON makes longest.
func TestPagesOfLongKeys(t *testing.T) {
	cfg := configFor(servertest.Consul(t, testserver.Options{Args: []string{"-hcl", "limits { kv_max_value_size = 16384, txn_max_req_len = 16384 }"}}))
	cfg.MaxValueSize = 16384
	s := openStore(t, cfg)
	var want, got []string
	for i := range 40 {
		key := fmt.Sprintf("p/%02d%s", i, strings.Repeat("<", 500))
		drivertest.Put(t, s, key, "v")
		want = append(want, key)
	}
	req := driver.ScanRequest{Prefix: "p/"}
	for more := true; more; {
		page, err := s.Scan(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			got = append(got, e.Key)
		}
		if more = page.More; more {
			req.Snapshot, req.After = page.Snapshot, got[len(got)-1]
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d keys of %d", len(got), len(want))
	}
}
