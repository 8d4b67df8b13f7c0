package etcd

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

const endpointForms = "host:port, http://host:port, https://host:port, unix:///path or unixs:///path"

// checkEndpoint reports what is wrong with one endpoint, and the scheme it
// names: "" for a bare host:port.
func checkEndpoint(ep string) (scheme string, err error) {
	scheme, rest, found := strings.Cut(ep, "://")
	if !found {
		scheme, rest = "", ep
	}
	// Not echoed: what precedes an "@" may be a password.
	if strings.Contains(rest, "@") {
		return "", errors.New("must not contain credentials; use username and password")
	}
	switch scheme {
	case "", "http", "https":
		return scheme, checkHostPort(ep, strings.TrimSuffix(rest, "/"))
	case "unix", "unixs":
		if len(rest) < 2 || rest[0] != '/' {
			return "", fmt.Errorf("%q needs an absolute path, as in %s:///run/etcd.sock", ep, scheme)
		}
		return scheme, nil
	default:
		return "", fmt.Errorf("%q has an unknown scheme; write %s", ep, endpointForms)
	}
}

func checkHostPort(ep, hostport string) error {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || host == "" || strings.ContainsAny(hostport, "/?# \t\r\n") {
		return fmt.Errorf("%q is not an endpoint; write %s", ep, endpointForms)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no valid port; allowed are 1 to 65535", ep)
	}
	return nil
}

// checkEndpoints reports the first wrong endpoint, and whether the scheme
// asks for TLS (true), rules it out (false), or leaves it to the TLS settings
// (nil). gRPC uses the same transport security for all of them.
func checkEndpoints(endpoints []string) (secure *bool, err error) {
	if len(endpoints) == 0 {
		return nil, fmt.Errorf("endpoints: at least one is needed; write %s", endpointForms)
	}
	want := map[string]string{"": "bare", "unix": "bare", "http": "plain", "https": "TLS", "unixs": "TLS"}
	kind := ""
	for i, ep := range endpoints {
		scheme, err := checkEndpoint(ep)
		if err != nil {
			return nil, fmt.Errorf("endpoints[%d]: %w", i, err)
		}
		if slices.Contains(endpoints[:i], ep) {
			return nil, fmt.Errorf("endpoints[%d]: %q is listed twice", i, ep)
		}
		if kind != "" && want[scheme] != kind {
			return nil, fmt.Errorf("endpoints[%d]: %q: all endpoints must agree on using TLS", i, ep)
		}
		kind = want[scheme]
	}
	if kind == "bare" {
		return nil, nil
	}
	tls := kind == "TLS"
	return &tls, nil
}
