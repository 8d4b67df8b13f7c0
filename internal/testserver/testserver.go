// Package testserver starts real etcd and Consul servers as child processes on loopback ports: for tests and
// benchmarks (through its subpackage servertest) and for the demo of the command line.
//
// The servers are compiled from pinned modules when first needed (package pinned), keep their data in a temporary
// folder, and are gone when the program that started them is, even if that program was killed.
package testserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/polykv/polykv/internal/testserver/certs"
	"github.com/polykv/polykv/internal/testserver/pinned"
)

const (
	startTimeout  = 90 * time.Second // from the first process to a cluster that answers, on a busy machine
	startAttempts = 5                // each on other ports
)

// Options say what cluster to start. The zero value is one server without TLS and without users.
type Options struct {
	Nodes int // 1 (also if 0) or 3

	TLS        bool // clients are served TLS only, with a certificate of the cluster's own authority
	ClientAuth bool // clients must show a certificate of that authority as well; implies TLS

	// Auth refuses clients that say no user and password (etcd: Cluster.User and Password) or no token
	// (Consul: Cluster.Token). Those of the cluster may do everything; AddUser and AddToken make lesser ones.
	Auth bool

	NoFsync    bool  // etcd: acknowledge writes before they are on the disk
	QuotaBytes int64 // etcd: the size of the database after which writes are refused; 0: the server's default

	Args []string // more arguments for every server

	// Dir is the folder for data, logs and certificates; it must be empty or absent, and stays when the cluster is
	// closed. If Dir is "", a temporary folder is made and removed.
	Dir string

	Log io.Writer // told what takes long, such as compiling a server; may be nil
}

// A server is what the two kinds of servers differ in.
type server interface {
	tool() pinned.Tool
	portsPerNode() int
	clientPort(c *Cluster, n *node) int
	// args returns the command line of the node, having written what files it needs.
	args(c *Cluster, n *node) ([]string, error)
	// ready returns nil if the node serves linearizable reads.
	ready(ctx context.Context, c *Cluster, n *node) error
	// leads says whether the node holds itself for the leader, and in which term.
	leads(ctx context.Context, c *Cluster, n *node) (bool, uint64, error)
	// secure switches on what Options.Auth asks for; it is called once, on a cluster that is ready.
	secure(ctx context.Context, c *Cluster) error
}

// StartEtcd starts an etcd cluster and returns when it serves clients. ctx bounds the start only; the caller ends
// the cluster with Close.
func StartEtcd(ctx context.Context, o Options) (*Cluster, error) {
	return start(ctx, o, etcdServer{})
}

// StartConsul starts a cluster of Consul servers and returns when it serves clients. ctx bounds the start only; the
// caller ends the cluster with Close.
func StartConsul(ctx context.Context, o Options) (*Cluster, error) {
	return start(ctx, o, consulServer{})
}

func start(ctx context.Context, o Options, s server) (*Cluster, error) {
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.Nodes != 1 && o.Nodes != 3 {
		return nil, fmt.Errorf("testserver: a cluster of %d nodes; there are only 1 and 3", o.Nodes)
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	o.TLS = o.TLS || o.ClientAuth
	program, err := s.tool().Path(ctx, o.Log)
	if err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	c := &Cluster{server: s, options: o, program: program}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("testserver: start %s: %w", s.tool().Name, err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.makeDir(); err != nil {
		return err
	}
	if err := c.makeSecrets(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := c.startOnNewPorts(ctx, attempt)
		if err == nil {
			break
		}
		// A port was free when it was chosen; if somebody was faster, the servers start afresh on others.
		if attempt == startAttempts || ctx.Err() != nil || !c.portTaken() {
			return err
		}
		c.killAll()
		c.ports.release()
	}
	if c.options.Auth {
		if err := c.server.secure(ctx, c); err != nil {
			return fmt.Errorf("set up users: %w", err)
		}
		return c.WaitReady(ctx)
	}
	return nil
}

func (c *Cluster) makeDir() error {
	if c.options.Dir == "" {
		dir, err := os.MkdirTemp("", "polykv-"+c.server.tool().Name+"-")
		c.dir, c.ownsDir = dir, err == nil
		return err
	}
	dir, err := filepath.Abs(c.options.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if len(entries) > 0 {
		err = fmt.Errorf("the folder %s is not empty", dir)
	}
	c.dir = dir
	return err
}

func (c *Cluster) makeSecrets() error {
	if c.options.Auth {
		c.user, c.password, c.token = "root", newSecret(), newSecret()
	}
	if !c.options.TLS {
		return nil
	}
	ca, err := certs.NewAuthority(filepath.Join(c.dir, "certs"), "ca")
	if err != nil {
		return err
	}
	if c.serverCert, err = ca.Server("server"); err != nil {
		return err
	}
	if c.clientCert, err = ca.Client(clientName); err != nil {
		return err
	}
	pair, err := c.clientCert.Load()
	if err != nil {
		return err
	}
	c.authority = ca
	c.tls = &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return nil
}

func (c *Cluster) startOnNewPorts(ctx context.Context, attempt int) error {
	ports, err := reservePorts(c.options.Nodes * c.server.portsPerNode())
	if err != nil {
		return err
	}
	c.ports = ports
	c.nodes = nil
	for i := range c.options.Nodes {
		n := &node{index: i, ports: ports.ports[i*c.server.portsPerNode():]}
		n.dir = filepath.Join(c.dir, fmt.Sprintf("node%d-%d", i, attempt))
		n.logFile = filepath.Join(n.dir, "server.log")
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		if err := c.startNode(n); err != nil {
			return err
		}
	}
	return c.WaitReady(ctx)
}

// startNode starts the node's process, on whatever data it has.
func (c *Cluster) startNode(n *node) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	args, err := c.server.args(c, n)
	if err != nil {
		return err
	}
	n.process, err = startProcess(c.program, append(args, c.options.Args...), n.dir, n.logFile, childAttributes())
	n.paused, n.down = false, false
	return err
}

// portTaken tells whether a node ended because it could not listen.
func (c *Cluster) portTaken() bool {
	return slices.ContainsFunc(c.nodes, func(n *node) bool {
		return n.process != nil && !n.process.running() && bytes.Contains(tail(n.logFile), []byte("address already in use"))
	})
}
