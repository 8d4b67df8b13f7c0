package cli_test

import (
	"strings"
	"testing"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

// The whole runbook with mutual TLS, users and tokens that may do no more than
// docs/operations.md asks for, on both sides; and a target whose user may not
// write, which shows before anything is sealed.
func TestRunbookThroughALockedDoor(t *testing.T) {
	consul := servertest.Consul(t, testserver.Options{Auth: true, ClientAuth: true})
	etcd := secured.Get(t)
	token, err := consul.AddToken(t.Context(), `key_prefix "locked/" { policy = "write" }`)
	if err != nil {
		t.Fatal(err)
	}
	for user, write := range map[string]bool{"mover": true, "looker": false} {
		if err := etcd.AddUser(t.Context(), user, "pass-"+user, testserver.Permission{Prefix: "locked/", Read: true, Write: write}); err != nil {
			t.Fatal(err)
		}
	}
	primary := consul.Section("locked/", "token: "+token)
	target := func(user string) string {
		return etcd.Section("locked/", "username: "+user, "password: pass-"+user)
	}
	s := newOnServers(t, primary, target("mover"))
	s.seed(50, primary)
	s.run("migrate", "plan").ends(t, 0, "ready; next")
	s.run("migrate", "start").ends(t, 0, "etcd: standby")
	client := s.client()
	if err := putBytes(t.Context(), client, "k00000", "by the fleet"); err != nil {
		t.Fatal(err)
	}
	s.run("copy").ends(t, 0, "50 keys compared")
	s.run("verify").ends(t, 0, "0 differ")

	lesser := newOnServers(t, primary, target("looker"))
	r := lesser.run("migrate", "cutover")
	if r.code != 1 || !strings.Contains(r.stderr, "permission denied") || !strings.Contains(r.stderr, "before it sealed anything") {
		t.Errorf("an operator who may not write the target: %+v", r)
	}
	if r := lesser.run("migrate", "plan"); r.code != 1 || !strings.Contains(r.stdout, "NO  etcd    permissions") {
		t.Errorf("plan: %+v", r)
	}
	s.run("migrate", "status", "--check").ends(t, 0, "READY")

	s.run("migrate", "cutover", "--expect-clients=1").ends(t, 0, "etcd: primary (was filling)")
	s.run("migrate", "rollback", "--expect-clients=1").ends(t, 0, "consul: primary (was filling)")
	s.run("migrate", "cutover", "--expect-clients=1").ends(t, 0, "etcd: primary (was filling)")
	if err := putBytes(t.Context(), client, "k00001", "moved"); err != nil {
		t.Fatal(err)
	}
	s.run("migrate", "finish").ends(t, 0, "consul: retired")
	for _, secret := range []string{token, "pass-mover"} {
		if r := s.run("migrate", "status"); strings.Contains(r.stdout+r.stderr, secret) {
			t.Error("a secret shows")
		}
	}
}
