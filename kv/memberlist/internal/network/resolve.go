package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The forms of an entry of the join list besides plain host:port.
const (
	prefixDNS    = "dns+"    // every address of a name
	prefixDNSSRV = "dnssrv+" // every target of an SRV record

	// prefixDNSSRVNoA is prefixDNSSRV in the words of others, where targets are
	// resolved only when they are dialled. Here they are resolved each time.
	prefixDNSSRVNoA = "dnssrvnoa+"
)

// DefaultPort is the one of entries of the join list that name none.
const DefaultPort = 7946

// resolver turns a join list into addresses.
type resolver struct {
	dns *net.Resolver
}

func newResolver(cfg *Config) *resolver {
	r := &resolver{dns: cfg.Resolver}
	if r.dns == nil {
		r.dns = net.DefaultResolver
	}
	return r
}

// resolve returns the addresses of all entries, looked up at once: a name server
// that doesn't answer for one mustn't use up the time of the others. Those that
// can't be resolved are in the error, and don't keep the others from being used.
func (r *resolver) resolve(ctx context.Context, entries []string) ([]netip.AddrPort, error) {
	addrs, errs := make([][]netip.AddrPort, len(entries)), make([]error, len(entries))
	var wg sync.WaitGroup
	for i, entry := range entries {
		wg.Go(func() {
			var err error
			if addrs[i], err = r.entry(ctx, entry); err != nil {
				errs[i] = fmt.Errorf("%q: %w", entry, err)
			}
		})
	}
	wg.Wait()
	return slices.Concat(addrs...), errors.Join(append(errs, ctx.Err())...) // an answer can be there before anybody looks at ctx
}

func (r *resolver) entry(ctx context.Context, entry string) ([]netip.AddrPort, error) {
	if name, ok := cutSRV(entry); ok {
		return r.srv(ctx, name)
	}
	host, port, err := splitHostPort(strings.TrimPrefix(entry, prefixDNS))
	if err != nil {
		return nil, err
	}
	return r.host(ctx, host, port)
}

// cutSRV returns the name of an SRV record, if entry is one.
func cutSRV(entry string) (name string, ok bool) {
	if name, ok = strings.CutPrefix(entry, prefixDNSSRVNoA); ok {
		return name, true
	}
	return strings.CutPrefix(entry, prefixDNSSRV)
}

// splitHostPort is net.SplitHostPort with a default.
func splitHostPort(s string) (host string, port uint16, err error) {
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return addr.String(), DefaultPort, nil
	}
	if !strings.Contains(s, ":") {
		return s, DefaultPort, nil
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("port %q is not a number from 1 to 65535", text)
	}
	return host, uint16(n), nil
}

func (r *resolver) host(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap().WithZone(""), port)}, nil
	}
	addrs, err := r.dns.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	all := make([]netip.AddrPort, 0, len(addrs))
	for _, addr := range addrs {
		all = append(all, netip.AddrPortFrom(addr.Unmap().WithZone(""), port))
	}
	return all, nil
}

func (r *resolver) srv(ctx context.Context, name string) ([]netip.AddrPort, error) {
	_, records, err := r.dns.LookupSRV(ctx, "", "", name)
	if err != nil && len(records) == 0 {
		return nil, err
	}
	var all []netip.AddrPort
	var errs []error
	for _, record := range records {
		addrs, err := r.host(ctx, record.Target, record.Port)
		if err != nil {
			errs = append(errs, err)
		}
		all = append(all, addrs...)
	}
	return all, errors.Join(errs...)
}

// CheckJoin says what is wrong with an entry of the join list, without
// resolving it.
func CheckJoin(entry string) error {
	name, isSRV := cutSRV(entry)
	if isSRV {
		if name == "" || strings.Contains(name, ":") {
			return fmt.Errorf("%q: after dnssrv+ comes the name of an SRV record, without a port", entry)
		}
		return nil
	}
	host, _, err := splitHostPort(strings.TrimPrefix(entry, prefixDNS))
	if err != nil {
		return fmt.Errorf("%q: %w", entry, err)
	}
	if host == "" || strings.ContainsAny(host, "/ +") {
		return fmt.Errorf("%q is not host:port, dns+host:port, dnssrv+name or dnssrvnoa+name", entry)
	}
	return nil
}
