package etcd

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver/kit"
)

// lookUpAgain is how often names are looked up.
const lookUpAgain = 30 * time.Second

// discovery keeps the endpoints up to date: those behind the names that the
// configuration has, and, if it says so, those of the cluster's members.
type discovery struct {
	configured []kit.Address
	sync       time.Duration // between two questions for the members; 0: none
	secure     bool
	members    func(ctx context.Context) ([]*pb.Member, error)
	use        func(endpoints ...string)
	logger     *slog.Logger

	mu    sync.Mutex
	names map[string]string // of the hosts behind addresses that were looked up
	used  []string
	begin sync.Once
	done  chan struct{} // closed once the names were looked up, or can't be
}

// needed reports whether anything can change.
func (d *discovery) needed() bool {
	return d.sync > 0 || slices.ContainsFunc(d.configured, isName)
}

// isName reports whether a may stand for several addresses.
func isName(a kit.Address) bool {
	if a.Network == "srv" {
		return true
	}
	host, _, err := net.SplitHostPort(a.Target)
	_, ipErr := netip.ParseAddr(host)
	return a.Network == "tcp" && err == nil && host != "localhost" && ipErr != nil
}

// run looks again until ctx is done.
func (d *discovery) run(ctx context.Context) {
	var members []string
	var asked time.Time
	var failed error // to learn the members
	for first := true; ctx.Err() == nil; first = false {
		found := d.lookUp(ctx)
		if d.sync > 0 && !first && time.Since(asked) >= d.sync {
			asked = time.Now()
			var all []*pb.Member
			if all, failed = d.members(ctx); failed == nil {
				members = d.urls(all)
			} else {
				d.logger.Debug("etcd: the members can't be learned", "error", failed)
			}
		}
		if failed != nil {
			found = append(found, members...) // one of which may still be there
		} else if len(members) > 0 {
			found = members
		}
		d.take(found)
		if first {
			close(d.done)
			continue
		}
		pause := lookUpAgain
		if d.sync > 0 {
			pause = min(pause, d.sync)
		}
		_ = wait.For(ctx, pause)
	}
}

// lookUp returns the endpoints that the configured ones stand for. A name that
// can't be looked up stays as it is.
func (d *discovery) lookUp(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var found []string
	for _, a := range d.configured {
		switch {
		case a.Network == "srv":
			_, targets, err := a.Targets(ctx)
			if err != nil {
				d.logger.Warn("etcd: the service record can't be looked up", "name", a.Target, "error", err)
			}
			for _, target := range targets {
				found = append(found, d.hosts(ctx, target)...)
			}
		case isName(a):
			found = append(found, d.hosts(ctx, a.Target)...)
		case a.Network == "unix":
			found = append(found, "unix://"+a.Target)
		default:
			found = append(found, a.Target)
		}
	}
	return found
}

// hosts returns the addresses behind target, a host:port, if there are several.
func (d *discovery) hosts(ctx context.Context, target string) []string {
	name, port, _ := net.SplitHostPort(target)
	ips, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil || len(ips) < 2 {
		return []string{target}
	}
	found := make([]string, len(ips))
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, ip := range ips {
		found[i] = net.JoinHostPort(ip, port)
		d.names[found[i]] = name
	}
	return found
}

// urls returns the endpoints of the members that serve clients in our way.
func (d *discovery) urls(members []*pb.Member) []string {
	want := kit.PlainText
	if d.secure {
		want = kit.OverTLS
	}
	var found []string
	for _, m := range members {
		for _, text := range m.ClientURLs {
			if a, err := endpointForms.Parse(text); err == nil && !m.IsLearner && a.Transport() == want && a.Network == "tcp" {
				found = append(found, a.Target)
			}
		}
	}
	return found
}

// take makes endpoints those that are used, if they are others than before.
func (d *discovery) take(endpoints []string) {
	endpoints = slices.Compact(slices.Sorted(slices.Values(endpoints)))
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(endpoints) == 0 || slices.Equal(endpoints, d.used) {
		return
	}
	d.logger.Debug("etcd: the endpoints changed", "endpoints", endpoints)
	d.used = endpoints
	d.use(clientURLs(endpoints, d.secure)...)
}

// clientURLs returns endpoints as the etcd client takes them.
func clientURLs(endpoints []string, secure bool) []string {
	urls := slices.Clone(endpoints)
	for i, e := range endpoints {
		if _, _, err := net.SplitHostPort(e); err == nil && secure && !strings.Contains(e, "://") {
			urls[i] = (&url.URL{Scheme: "https", Host: e}).String()
		}
	}
	return urls
}

// host returns the name that the certificate at endpoint must be for.
func (d *discovery) host(endpoint string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return cmp.Or(d.names[endpoint], endpoint)
}

// wait returns when the names were looked up. Without service records there
// are endpoints from the beginning.
func (d *discovery) wait(ctx context.Context) {
	if len(d.configured) == 0 || d.configured[0].Network != "srv" {
		return
	}
	select {
	case <-d.done:
	case <-ctx.Done():
	}
}

// membersOf asks for the members of the cluster.
func membersOf(conn *grpc.ClientConn, l *logins, opts []grpc.CallOption) func(context.Context) ([]*pb.Member, error) {
	cluster := pb.NewClusterClient(conn)
	return func(ctx context.Context) ([]*pb.Member, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		resp, err := call(ctx, l, false, func(ctx context.Context) (*pb.MemberListResponse, error) {
			return cluster.MemberList(ctx, &pb.MemberListRequest{Linearizable: true}, opts...)
		})
		return resp.GetMembers(), err
	}
}
