package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/polykv/polykv/internal/testserver"
)

// A link is one client's way to one server: a proxy of our own, which knows
// what the client holds open and can lose what toxiproxy can't, and behind it
// toxiproxy, which delays, slices, starves and resets.
type link struct {
	client, node int
	near         *testserver.Proxy
	far          *toxiproxy.Proxy

	mu   sync.Mutex
	mode linkMode
	down bool // the server is
}

// linkMode is what a link does with connections as long as it isn't told
// otherwise.
type linkMode int

const (
	passes linkMode = iota
	refuses
	hangs
	swallows
)

func newLink(t testing.TB, client, node int, endpoint string) *link {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	far := toxiproxy.NewProxy(server, fmt.Sprintf("client %d to node %d", client, node), "127.0.0.1:0", endpoint)
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	near, err := testserver.NewProxy(far.Listen)
	if err != nil {
		far.Stop()
		t.Fatal(err)
	}
	return &link{client: client, node: node, near: near, far: far}
}

// set changes the mode, which shows as long as the server is up.
func (l *link) set(mode linkMode) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = mode
	return l.apply()
}

// serverDown has connections refused, as a host without the server does,
// until the server is up. Behind two proxies they would be accepted.
func (l *link) serverDown(down bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	return l.apply()
}

func (l *link) apply() error {
	if l.down || l.mode == refuses {
		l.near.Cut()
		return nil
	}
	err := l.near.Heal()
	switch l.mode {
	case hangs:
		l.near.Hang()
	case swallows:
		l.near.SwallowResponses()
	}
	return err
}

// poison adds one of toxiproxy's toxics, to old connections and new ones.
func (l *link) poison(kind, stream string, attributes map[string]any) error {
	text, err := json.Marshal(map[string]any{"type": kind, "stream": stream, "attributes": attributes})
	if err != nil {
		return err
	}
	_, err = l.far.Toxics.AddToxicJson(strings.NewReader(string(text)))
	return err
}

// cure ends everything that was done to the link.
func (l *link) cure(ctx context.Context) error {
	l.far.Toxics.ResetToxics(ctx)
	return l.set(passes)
}

// close ends the link, whose client is closed, and reports connections that
// the client left open.
func (l *link) close() error {
	deadline := time.Now().Add(20 * time.Second)
	for l.near.Stats().Open > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond) // between two looks at the condition
	}
	open := l.near.Stats().Open
	l.near.Close()
	l.far.Stop()
	if open > 0 {
		return fmt.Errorf("client %d left %d connections to node %d open", l.client, open, l.node)
	}
	return nil
}

// eachLink calls f for all links and joins the errors.
func eachLink(links []*link, f func(*link) error) error {
	var errs []error
	for _, l := range links {
		if err := f(l); err != nil {
			errs = append(errs, fmt.Errorf("the link of client %d to node %d: %w", l.client, l.node, err))
		}
	}
	return errors.Join(errs...)
}
