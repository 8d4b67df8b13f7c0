package testserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/polykv/polykv/internal/testserver/pinned"
)

type consulServer struct{}

// The ports of a node, by their index.
const (
	consulHTTP = iota // or HTTPS
	consulRPC
	consulSerf
	consulPorts
)

func (consulServer) tool() pinned.Tool                  { return pinned.Consul() }
func (consulServer) portsPerNode() int                  { return consulPorts }
func (consulServer) clientPort(_ *Cluster, n *node) int { return n.ports[consulHTTP] }

func (s consulServer) args(c *Cluster, n *node) ([]string, error) {
	text, err := json.MarshalIndent(s.config(c, n), "", "  ")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(n.dir, "config.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	return []string{"agent", "-config-file=" + file}, nil
}

// config is a server with everything off that isn't the key-value store.
func (s consulServer) config(c *Cluster, n *node) map[string]any {
	var join []string
	for _, m := range c.nodes {
		join = append(join, address(m.ports[consulSerf]))
	}
	const off = -1
	const connections = 2000 // per client; Consul refuses to start if the system allows it fewer open files
	ports := map[string]int{
		"server": n.ports[consulRPC], "serf_lan": n.ports[consulSerf], "serf_wan": off,
		"http": n.ports[consulHTTP], "https": off, "dns": off, "grpc": off,
	}
	config := map[string]any{
		"server":               true,
		"bootstrap_expect":     len(c.nodes),
		"node_name":            "node" + strconv.Itoa(n.index),
		"data_dir":             filepath.Join(n.dir, "data"),
		"bind_addr":            host,
		"advertise_addr":       host,
		"client_addr":          host,
		"ports":                ports,
		"retry_join":           join,
		"retry_interval":       "1s",
		"disable_update_check": true,
		"connect":              map[string]any{"enabled": false},
		"peering":              map[string]any{"enabled": false},
		"performance":          map[string]any{"raft_multiplier": 1},
		// A server that a test killed must keep its seat, or it would come back as a stranger on probation.
		"autopilot": map[string]any{"cleanup_dead_servers": false},
		"limits":    map[string]any{"http_max_conns_per_client": connections, "rpc_max_conns_per_client": connections},
	}
	if c.options.TLS {
		ports["https"], ports["http"] = ports["http"], off
		config["tls"] = map[string]any{"https": map[string]any{
			"ca_file": c.authority.File(), "cert_file": c.serverCert.CertFile, "key_file": c.serverCert.KeyFile,
			"verify_incoming": c.options.ClientAuth,
		}}
	}
	if c.options.Auth {
		config["acl"] = map[string]any{
			"enabled": true, "default_policy": "deny",
			"tokens": map[string]any{"initial_management": c.token, "agent": c.token},
		}
	}
	return config
}

// ready reads a key that doesn't exist, consistently, and wants every server to have its seat: one that is started
// last may otherwise be seen by a test before it counts for the majority.
func (consulServer) ready(ctx context.Context, c *Cluster, n *node) error {
	r, err := c.request(ctx, n, http.MethodGet, "/v1/kv/polykv-testserver-ready?consistent", nil)
	if err != nil {
		return err
	}
	if err := r.ok(http.StatusOK, http.StatusNotFound); err != nil {
		return err
	}
	r, err = c.request(ctx, n, http.MethodGet, "/v1/status/peers", nil)
	if err != nil {
		return err
	}
	var peers []string
	if err := errors.Join(r.ok(http.StatusOK), json.Unmarshal(r.body, &peers)); err != nil {
		return err
	}
	if len(peers) != len(c.nodes) {
		return fmt.Errorf("the cluster has %d of %d servers", len(peers), len(c.nodes))
	}
	return nil
}

func (consulServer) leads(ctx context.Context, c *Cluster, n *node) (bool, uint64, error) {
	r, err := c.request(ctx, n, http.MethodGet, "/v1/agent/self", nil)
	if err != nil {
		return false, 0, err
	}
	var self struct {
		Stats struct {
			Raft struct{ State, Term string } `json:"raft"`
		}
	}
	if err := errors.Join(r.ok(http.StatusOK), json.Unmarshal(r.body, &self)); err != nil {
		return false, 0, err
	}
	term, err := strconv.ParseUint(self.Stats.Raft.Term, 10, 64)
	return self.Stats.Raft.State == "Leader", term, err
}

// secure has nothing to do: the management token is in the configuration.
func (consulServer) secure(context.Context, *Cluster) error { return nil }

// AddToken gives a Consul cluster with Options.Auth one more token. Rules are Consul's policy language, for example
// `key_prefix "app/" { policy = "write" }`.
func (c *Cluster) AddToken(ctx context.Context, rules string) (secret string, err error) {
	if _, ok := c.server.(consulServer); !ok {
		return "", fmt.Errorf("testserver: %w: this is not Consul", errors.ErrUnsupported)
	}
	name := "policy-" + newSecret()
	if err := c.consulPut(ctx, "/v1/acl/policy", map[string]any{"Name": name, "Rules": rules}, nil); err != nil {
		return "", fmt.Errorf("testserver: add policy: %w", err)
	}
	var token struct{ SecretID string }
	body := map[string]any{"Policies": []map[string]string{{"Name": name}}}
	if err := c.consulPut(ctx, "/v1/acl/token", body, &token); err != nil {
		return "", fmt.Errorf("testserver: add token: %w", err)
	}
	return token.SecretID, nil
}

func (c *Cluster) consulPut(ctx context.Context, path string, body, result any) error {
	leader, err := c.Leader(ctx) // a follower that lags might not know yet what was just written
	if err != nil {
		return err
	}
	r, err := c.request(ctx, c.nodes[leader], http.MethodPut, path, body)
	if err != nil {
		return err
	}
	if err := r.ok(http.StatusOK); err != nil || result == nil {
		return err
	}
	return json.Unmarshal(r.body, result)
}
