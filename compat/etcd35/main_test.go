package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/compat/internal/choice"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestVersions: etcd's client stays the one that the program chose. Its other
// modules are older than anybody's who uses more than that client.
func TestVersions(t *testing.T) {
	choice.Check(t, []string{"go.etcd.io/etcd/client/v3"}, func(path string) bool { return strings.HasPrefix(path, "go.etcd.io/etcd/") })
}

func TestProgram(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := run(ctx, servertest.Etcd(t, testserver.Options{NoFsync: true}).Endpoints()[0]); err != nil {
		t.Fatal(err)
	}
}
