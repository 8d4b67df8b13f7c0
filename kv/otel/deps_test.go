package kvotel_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A program that is traced links OpenTelemetry's API and what it chooses itself,
// no SDK and no driver.
func TestLinksTheAPIOnly(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "go.opentelemetry.io/otel/trace") {
		t.Fatalf("the list of packages is incomplete: %q", deps)
	}
	for _, dep := range deps {
		ours, isOurs := strings.CutPrefix(dep, "github.com/polykv/polykv/")
		if isOurs && !slices.Contains([]string{"kv/otel", "codec", "kv", "internal/wait", "kv/internal/removal", "kv/driver"}, ours) {
			t.Errorf("it links %s", dep)
		}
		if strings.HasPrefix(dep, "go.opentelemetry.io/otel/sdk") || strings.Contains(dep, "prometheus") {
			t.Errorf("it links %s", dep)
		}
	}
}
