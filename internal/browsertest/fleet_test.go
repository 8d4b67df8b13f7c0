package browsertest_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/browsertest"
	"github.com/polykv/polykv/kv/multi/migrate"
	"github.com/polykv/polykv/kv/multi/migrate/fleetpage"
)

// standing is a migration that stands where it stands.
type standing migrate.Status

func (s standing) Status(context.Context) (migrate.Status, error) { return migrate.Status(s), nil }

func TestFleetPage(t *testing.T) {
	client := func(host string) migrate.ClientStatus {
		return migrate.ClientStatus{Heartbeat: migrate.Heartbeat{Instance: host, Host: host, PID: 7, Version: "v1.2.3", Primary: "old", Mirror: "new"}, Age: 3 * time.Second}
	}
	odd := client(hostile)
	odd.Trouble = hostile
	p := browsertest.Open(t)
	server := httptest.NewServer(fleetpage.Handler(standing{
		Phase: migrate.Mirroring, Now: "where it stands", Next: "what comes next", Writable: true, Live: 2,
		Source:   migrate.StoreStatus{Name: "old", Record: &migrate.Record{State: "primary", Epoch: 3}, Clients: 2},
		Target:   migrate.StoreStatus{Name: "new", Error: strings.Repeat("a long error ", 20)},
		Clients:  []migrate.ClientStatus{client("good"), odd},
		Blockers: []migrate.Blocker{{Client: "odd", Detail: hostile, Allow: "--allow-unreachable"}},
	}))
	t.Cleanup(server.Close)
	for _, screen := range []browsertest.Screen{browsertest.Desktop, browsertest.Phone, browsertest.PhoneDark} {
		p.Load(server.URL+"/", screen)
		checkPage(t, p, screen, page{title: "polykv: the fleet in a migration", texts: map[string]string{
			"#phase": "mirroring", "#now": "where it stands", "#next": "what comes next", "#writes": "go on", "#ready": "not ready",
			`section[aria-labelledby=fleet] tr:nth-child(1) td[data-label="Ready"]`:  "READY",
			`section[aria-labelledby=fleet] tr:nth-child(2) td[data-label="Ready"]`:  hostile,
			`section[aria-labelledby=stores] tr:nth-child(2) td[data-label="State"]`: "unreadable",
		}})
	}
	screenshot(t, p, "fleet.png")
}
