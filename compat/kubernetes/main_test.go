package main

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/compat/internal/choice"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestVersions fails when a floor of polykv's rises above what Kubernetes
// chooses.
func TestVersions(t *testing.T) {
	choice.Check(t, []string{"k8s.io/apimachinery", "k8s.io/apiserver", "k8s.io/client-go"}, nil)
}

func TestProgram(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := run(ctx, servertest.Etcd(t, testserver.Options{NoFsync: true}).Endpoints()[0]); err != nil {
		t.Fatal(err)
	}
}
