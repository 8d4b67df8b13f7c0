package fleetpage_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/kv/multi/migrate"
	"github.com/polykv/polykv/kv/multi/migrate/fleetpage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed is a migration that stands where it stands, and counts who asks.
type fixed struct {
	status migrate.Status
	err    error
	asked  int
}

func (f *fixed) Status(context.Context) (migrate.Status, error) {
	f.asked++
	return f.status, f.err
}

const hostile = `<script>alert(1)</script>`

func fleet() *fixed {
	client := func(host string) migrate.ClientStatus {
		return migrate.ClientStatus{Heartbeat: migrate.Heartbeat{Instance: host, Host: host, PID: 7, Primary: "old", Mirror: "new", Waiting: 1234}, Age: 3 * time.Second}
	}
	bad, late := client("bad"), client("late")
	bad.Trouble, late.Late = hostile, true
	return &fixed{status: migrate.Status{
		Phase: migrate.Mirroring, Now: "now-text", Next: "next-text", Writable: true, Live: 2, Waiting: 2468,
		Source:   migrate.StoreStatus{Name: "old", Record: &migrate.Record{State: "primary", Epoch: 3}, Clients: 2},
		Target:   migrate.StoreStatus{Name: "new", Error: "permission denied"},
		Clients:  []migrate.ClientStatus{client("good"), bad, late},
		Blockers: []migrate.Blocker{{Check: "reach", Client: "bad", Detail: hostile, Allow: "--allow-unreachable"}},
	}}
}

func get(t *testing.T, h http.Handler, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

func TestFleetPage(t *testing.T) {
	f := fleet()
	h := fleetpage.Handler(f)
	body := get(t, h, "/").Body.String()
	for _, want := range []string{
		"now-text", "next-text", `<span class="good">go on</span>`, `<span class="bad">not ready</span>`, "good (pid 7)", `<span class="good">READY</span>`,
		"crashed, or cut off", "permission denied", "unreadable", "--allow-unreachable", "2,468 calls wait", "1,234",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, hostile) {
		t.Error("what clients say is not escaped")
	}
	if t.Failed() {
		t.Log(body)
	}
	var status struct {
		Phase string
		At    time.Time
	}
	if err := json.Unmarshal(get(t, h, "/?format=json").Body.Bytes(), &status); err != nil || status.Phase != "mirroring" || status.At.IsZero() {
		t.Errorf("%+v, %v", status, err)
	}
	if f.asked != 1 {
		t.Errorf("the stores were asked %d times for two looks at once", f.asked)
	}
}

func TestFleetPageWithoutStores(t *testing.T) {
	w := get(t, fleetpage.Handler(&fixed{err: errors.New("both are away")}), "/")
	if w.Code != http.StatusInternalServerError && w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "both are away") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
