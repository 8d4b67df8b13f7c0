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

// transport is what the endpoints' schemes say about TLS.
type transport int

const (
	anyTransport transport = iota // up to Config.TLS
	plainText
	overTLS
)

var transports = map[string]transport{
	"": anyTransport, "unix": anyTransport, "http": plainText, "https": overTLS, "unixs": overTLS,
}

// checkEndpoints reports the first wrong endpoint. They must agree on the
// transport, since gRPC secures all connections of a client in one way.
func checkEndpoints(endpoints []string) (transport, error) {
	if len(endpoints) == 0 {
		return 0, fmt.Errorf("endpoints: at least one is needed; write %s", endpointForms)
	}
	var first transport
	for i, ep := range endpoints {
		scheme, err := checkEndpoint(ep)
		if err != nil {
			return 0, fmt.Errorf("endpoints[%d]: %w", i, err)
		}
		if i == 0 {
			first = transports[scheme]
		}
		if transports[scheme] != first {
			return 0, fmt.Errorf("endpoints[%d]: %q differs from %q in using TLS; all must begin with https://, or none", i, ep, endpoints[0])
		}
		if slices.Contains(endpoints[:i], ep) {
			return 0, fmt.Errorf("endpoints[%d]: %q is listed twice", i, ep)
		}
	}
	return first, nil
}
