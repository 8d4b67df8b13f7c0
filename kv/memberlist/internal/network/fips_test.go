package network

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFIPS runs itself in processes of both modes.
func TestFIPS(t *testing.T) {
	mode, child := os.LookupEnv("POLYKV_TEST_FIPS")
	if !child {
		for _, mode := range []string{"on", "only"} {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFIPS$", "-test.v")
			cmd.Env = append(os.Environ(), "POLYKV_TEST_FIPS="+mode, "GODEBUG=fips140="+mode)
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFIPS") {
				t.Errorf("%s: %v\n%s", mode, err, out)
			}
		}
		return
	}
	sealed := Security{Label: "a", Keys: [][]byte{key(1)}}
	if mode == "only" {
		for _, s := range []Security{sealed, {Keys: sealed.Keys, AcceptPlaintext: true, SendPlaintext: true}} {
			if _, err := newRing(s); err == nil || !strings.Contains(err.Error(), "fips140=only") {
				t.Errorf("error %v", err)
			}
		}
		sealed.Keys = nil
	}
	r := ringOf(t, sealed)
	a, b, _ := between(t, r, r)
	exchange(t, a, b)
	if kind, payload, why := r.openPacket(&cryptBuf{}, r.sealPacket(&cryptBuf{}, kindData, []byte("x"))); kind != kindData || string(payload) != "x" {
		t.Errorf("kind %d, %q, cause %q", kind, payload, why)
	}
}
