package testserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/testserver/certs"
)

const (
	stopGrace    = 15 * time.Second
	pollInterval = 50 * time.Millisecond
	clientName   = "client" // the common name of the cluster's client certificate
)

var errClosed = errors.New("testserver: the cluster is closed")

// A Cluster is one server or three. Its methods may be called concurrently. Nodes are numbered from 0.
type Cluster struct {
	server  server
	options Options
	program string
	dir     string
	ownsDir bool
	ports   *portBlock

	authority              *certs.Authority // nil without TLS
	serverCert, clientCert certs.Pair
	tls                    *tls.Config // of our own clients; nil without TLS
	user, password, token  string      // set by Options.Auth

	mu     sync.Mutex // guards closed, and process, paused and down of each node
	closed bool
	nodes  []*node
}

// A node is one server process of a cluster, and what stays when that process is replaced.
type node struct {
	index   int
	ports   []int
	dir     string
	logFile string
	process *process
	paused  bool
	down    bool // killed or stopped by the Cluster, as opposed to ended by itself
}

// Nodes returns the number of servers, whatever state they are in.
func (c *Cluster) Nodes() int { return len(c.nodes) }

// Endpoints returns the address ("127.0.0.1:port") of each server for clients. It never changes.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, c.endpoint(n))
	}
	return all
}

// URLs returns Endpoints with http:// or https:// in front.
func (c *Cluster) URLs() []string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, c.url(n))
	}
	return all
}

func (c *Cluster) endpoint(n *node) string { return address(c.server.clientPort(c, n)) }

func (c *Cluster) url(n *node) string {
	if c.options.TLS {
		return "https://" + c.endpoint(n)
	}
	return "http://" + c.endpoint(n)
}

// Authority returns what signed the servers' certificates and can sign more; nil without TLS.
func (c *Cluster) Authority() *certs.Authority { return c.authority }

// ClientCert returns a certificate that the servers accept from clients; zero without TLS.
func (c *Cluster) ClientCert() certs.Pair { return c.clientCert }

// TLSConfig returns a configuration for clients that trusts the servers and shows ClientCert; nil without TLS.
func (c *Cluster) TLSConfig() *tls.Config { return c.tls.Clone() }

// User and Password name etcd's root user; empty without Options.Auth.
func (c *Cluster) User() string { return c.user }

// Password belongs to User.
func (c *Cluster) Password() string { return c.password }

// Token returns Consul's management token; empty without Options.Auth.
func (c *Cluster) Token() string { return c.token }

// Dir returns the folder of data, logs and certificates.
func (c *Cluster) Dir() string { return c.dir }

// LogFile returns the file that server i logs to.
func (c *Cluster) LogFile(i int) string { return c.nodes[i].logFile }

// Pid returns the process id of server i, or 0 if it isn't running. A paused server has one.
func (c *Cluster) Pid(i int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.nodes[i].process; p != nil && p.running() {
		return p.cmd.Process.Pid
	}
	return 0
}

// Kill ends servers as a power failure would (SIGKILL), and returns when they are gone. No argument means all of
// them, here and below.
func (c *Cluster) Kill(nodes ...int) error {
	return c.each(nodes, func(n *node) error {
		n.down = true
		if n.process != nil {
			n.process.kill()
		}
		return nil
	})
}

// Stop ends servers gracefully (SIGTERM), and returns when they are gone.
func (c *Cluster) Stop(nodes ...int) error {
	return c.each(nodes, func(n *node) error {
		n.down = true
		switch {
		case n.process == nil:
		case n.paused: // it would not see the signal
			n.process.kill()
		default:
			n.process.stop(stopGrace)
		}
		return nil
	})
}

// Pause stops servers in their tracks (SIGSTOP): their connections stay open and nothing answers.
func (c *Cluster) Pause(nodes ...int) error { return c.signal(nodes, pause, true) }

// Continue lets paused servers go on.
func (c *Cluster) Continue(nodes ...int) error { return c.signal(nodes, resume, false) }

func (c *Cluster) signal(nodes []int, send func(*os.Process) error, paused bool) error {
	return c.each(nodes, func(n *node) error {
		if n.process == nil || !n.process.running() {
			return errors.New("not running")
		}
		if err := send(n.process.cmd.Process); err != nil {
			return err
		}
		n.paused = paused
		return nil
	})
}

// Restart starts servers on the same ports and data, having stopped those that still run. It doesn't wait until
// they serve: that takes a majority, and WaitReady.
func (c *Cluster) Restart(nodes ...int) error {
	if err := c.Stop(nodes...); err != nil {
		return err
	}
	return c.each(nodes, c.startNode)
}

// each calls f for the named nodes, or for all of them if none is named.
func (c *Cluster) each(nodes []int, f func(*node) error) error {
	if len(nodes) == 0 {
		for i := range c.nodes {
			nodes = append(nodes, i)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	var errs []error
	for _, i := range nodes {
		if i < 0 || i >= len(c.nodes) {
			return fmt.Errorf("testserver: there is no node %d", i)
		}
		if err := f(c.nodes[i]); err != nil {
			errs = append(errs, fmt.Errorf("testserver: node %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// WaitReady waits until every server that should be up serves linearizable reads: those that were not paused,
// stopped or killed by this Cluster. It fails when ctx ends, and at once if one of them ended by itself or all are down.
func (c *Cluster) WaitReady(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		nodes, err := c.active()
		if err != nil {
			return true, err
		}
		for _, n := range nodes {
			if err := c.server.ready(ctx, c, n); err != nil {
				return false, fmt.Errorf("%s node %d is not ready: %w", c.server.tool().Name, n.index, err)
			}
		}
		return true, nil
	})
}

// Leader waits until one of the servers that should be up leads the cluster, and returns its number.
func (c *Cluster) Leader(ctx context.Context) (int, error) {
	leader := -1
	err := poll(ctx, func() (bool, error) {
		nodes, err := c.active()
		if err != nil {
			return true, err
		}
		var newest uint64
		for _, n := range nodes {
			// A leader that was paused doesn't know yet that it was replaced; the replacement's term is higher.
			leads, term, err := c.server.leads(ctx, c, n)
			if err == nil && leads && term > newest {
				leader, newest = n.index, term
			}
		}
		if leader < 0 {
			return false, fmt.Errorf("none of the %d running %s nodes leads", len(nodes), c.server.tool().Name)
		}
		return true, nil
	})
	return leader, err
}

// active returns the nodes that should be up; it fails if there is none, or one that ended by itself.
func (c *Cluster) active() ([]*node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	var active []*node
	for _, n := range c.nodes {
		if n.process == nil || n.down || n.paused {
			continue
		}
		if !n.process.running() {
			return nil, fmt.Errorf("%s node %d ended by itself (%w); the end of its log:\n%s", c.server.tool().Name, n.index, n.process.err, tail(n.logFile))
		}
		active = append(active, n)
	}
	if len(active) == 0 {
		return nil, errors.New("testserver: no server is running")
	}
	return active, nil
}

// Close kills what still runs, waits until it is gone and removes the temporary folder. It may be called again.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.killAll()
	if c.ports != nil {
		c.ports.release()
	}
	if c.ownsDir {
		return os.RemoveAll(c.dir)
	}
	return nil
}

func (c *Cluster) killAll() {
	for _, n := range c.nodes {
		if n.process != nil {
			n.process.kill()
		}
	}
}

// poll calls f until it is done or ctx ends, when it returns what f said last.
func poll(ctx context.Context, f func() (done bool, err error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		done, err := f()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("testserver: %w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// tail returns the last lines of a log.
func tail(file string) []byte {
	const size = 4096
	f, err := os.Open(file)
	if err != nil {
		return []byte(err.Error())
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > size {
		_, _ = f.Seek(-size, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return text
}

func newSecret() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
