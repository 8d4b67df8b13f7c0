package e2e

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// The runbook with a fleet that works all the while, by the program and the
// declarative form: certificates on both sides, a token and a user with the least
// rights. In the end the store that leads is lost for good.
func TestFleetRunbook(t *testing.T) {
	seed, _ := firstSeed(t)
	f := newFleet(t, seed, fleetOptions{members: 3, old: 300, multi: fleetPatient, locked: true}, consulBackend, etcdBackend)
	f.muster()
	f.does("ready; next", "migrate", "plan")
	f.stage("mirroring")
	f.coordinate()
	f.ready()
	f.stage("copied")
	f.does("", "verify", "--limit=5")
	f.ends(1, "", "migrate", "cutover", "--max-pause=1us", "--allow-differences") // refused, or undone at the seal itself
	f.ready()
	f.ends(1, "answered, 30 were expected", "migrate", "cutover", "--expect-clients=30")
	f.ready()
	f.stage("moved")
	f.ready()
	f.stage("mirroring") // back
	f.ready()
	f.stage("moved")
	f.page()
	f.phase("the target leads", time.Second)
	store := f.settle()
	f.stage("moved") // nothing to do
	f.equal()
	f.dismiss()

	f.must(f.clusters[1].Kill())
	f.ends(3, `store "etcd" can't be read, store "consul" is standby`, "migrate", "status", "--check")
	f.does("consul: primary", "migrate", "force", "--on=consul")
	f.ends(3, `store "consul" is primary`, "migrate", "status")
	f.must(f.clusters[1].Restart())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f.must(f.clusters[1].WaitReady(ctx))
	f.does(`store "consul" is primary and is mirrored into store "etcd"`, "migrate", "abort")
	f.does("0 differ", "verify")
	f.stage("given-up")
	f.report(store)
	for name, secret := range map[string]string{"the password": "secret", "the token": token(f.stores[0].Section)} {
		if r := f.polykv("migrate", "status", "-vv"); strings.Contains(r.stdout+r.stderr, secret) {
			f.fail("%s shows", name)
		}
	}
}

func token(section string) string {
	_, after, _ := strings.Cut(section, "token: ")
	secret, _, _ := strings.Cut(after, ",")
	return secret
}

// stage has the program bring the migration to a stage.
func (f *fleet) stage(name string) {
	f.t.Helper()
	wanted := f.file("wanted.yaml", "{stage: "+name+", wait: 3m, max_pause: 4m, allow: [differences]}")
	f.does("the stage \""+name+"\" is reached", "migrate", "converge", "--wanted", wanted)
}

// ready waits until the program says that nothing is in the way of a cutover.
func (f *fleet) ready() {
	f.t.Helper()
	eventually(f.t, "the whole fleet is ready", func() bool {
		r := f.polykv("migrate", "status", "--check")
		return r.code == 0 && strings.Count(r.stdout, "READY") > f.options.members
	})
}

// page looks at the page of the fleet while the program serves it.
func (f *fleet) page() {
	f.t.Helper()
	config := f.file("polykv.yaml", fleetConfig(f.stores, f.options.multi))
	cmd, err := fleetCommand(fleetChild{Args: []string{"--config", config, "migrate", "status", "--serve=127.0.0.1:0"}})
	f.must(err)
	out, err := cmd.StdoutPipe()
	f.must(err)
	cmd.ExtraFiles = []*os.File{os.Stderr} // nobody asks how much memory it takes
	f.must(cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line := make([]byte, 256)
	n, err := out.Read(line)
	f.must(err)
	url := strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "page "))
	resp, err := http.Get(url)
	f.must(err)
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "store &#34;etcd&#34; is primary") || strings.Count(string(body), "(pid ") < f.options.members {
		f.t.Errorf("the page: %v\n%s", err, body)
	}
}
