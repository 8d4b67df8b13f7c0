package consul

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

const addressForms = "host:port, http://host:port, https://host:port or unix:///path"

// endpoint is where requests go.
type endpoint struct {
	network, dial string // for net.Dial
	scheme, host  string // of URLs
	path          string // in front of the paths of URLs
	tls           *tls.Config
}

// endpoint reports what is wrong with the address and with TLS.
func (c Config) endpoint() (endpoint, error) {
	e, err := parseAddress(c.Address)
	if err != nil {
		return endpoint{}, fmt.Errorf("address: %w", err)
	}
	use := c.TLS
	switch {
	case e.scheme == "https":
		if err := c.TLS.Validate("tls"); err != nil { // such as a file that is not enabled
			return endpoint{}, err
		}
		use.Enabled = true
	case e.scheme == "http" && c.TLS.Enabled:
		return endpoint{}, errors.New("tls.enabled: is true, but address begins with http:// or unix://; write https://")
	}
	if e.tls, err = use.Load(); err != nil {
		return endpoint{}, err
	}
	e.scheme = "http"
	if e.tls != nil {
		e.scheme = "https"
	}
	return e, nil
}

// parseAddress returns an endpoint whose scheme is "" for a bare host:port.
func parseAddress(address string) (endpoint, error) {
	if address == "" {
		address = defaultAddress
	}
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		scheme, rest = "", address
	}
	// Not echoed: what precedes an "@" may be a password.
	if strings.Contains(rest, "@") {
		return endpoint{}, errors.New("must not contain credentials; use token or token_file")
	}
	switch scheme {
	case "", "http", "https":
	case "unix":
		if len(rest) < 2 || rest[0] != '/' {
			return endpoint{}, fmt.Errorf("%q needs an absolute path, as in unix:///run/consul.sock", address)
		}
		return endpoint{network: "unix", dial: rest, scheme: "http", host: "localhost"}, nil
	default:
		return endpoint{}, fmt.Errorf("%q has an unknown scheme; write %s", address, addressForms)
	}
	host, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 && scheme != "" {
		host, path = rest[:i], strings.TrimRight(rest[i:], "/")
	}
	host, err := checkHost(address, scheme, host)
	if err != nil {
		return endpoint{}, err
	}
	if strings.ContainsAny(path, "?#% \t\r\n") {
		return endpoint{}, fmt.Errorf("%q is not an address; write %s", address, addressForms)
	}
	return endpoint{network: "tcp", dial: host, scheme: scheme, host: host, path: path}, nil
}

// checkHost returns host with a port: that of the scheme, if it has none.
func checkHost(address, scheme, host string) (string, error) {
	name, port, err := net.SplitHostPort(host)
	if defaultPort := map[string]string{"http": "80", "https": "443"}[scheme]; err != nil && defaultPort != "" {
		host = net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
		name, port, err = net.SplitHostPort(host)
	}
	if err != nil || name == "" || strings.ContainsAny(host, "/?# \t\r\n") {
		return "", fmt.Errorf("%q is not an address; write %s", address, addressForms)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no valid port; allowed are 1 to 65535", address)
	}
	return host, nil
}
