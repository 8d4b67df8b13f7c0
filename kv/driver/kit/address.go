package kit

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/polykv/polykv/kv/config"
)

// srvPrefix precedes the name of a service record in the DNS.
const srvPrefix = "dnssrv+"

// Address is where a server, or each of several, is reached.
type Address struct {
	Scheme  string // as it was written; "" for host:port alone
	Network string // "tcp", "unix", or "srv": Target is the name of a service record
	Target  string // host:port, path of a socket, or name
	Path    string // in front of the paths of URLs, without a slash at its end
}

// Forms says which addresses a driver takes.
type Forms struct {
	Schemes []string // of "http", "https", "unix", "unixs", "tls" and the store's own
	Paths   bool     // URLs may have a path, and leave out the port
	Secrets string   // the fields that take what may not stand before an "@"
}

// String lists the forms, for messages and help.
func (f Forms) String() string {
	forms := []string{"host:port"}
	for _, scheme := range f.Schemes {
		if strings.HasPrefix(scheme, "unix") {
			forms = append(forms, scheme+":///path")
		} else {
			forms = append(forms, scheme+"://host:port")
		}
	}
	return strings.Join(forms, ", ") + " or " + srvPrefix + "name"
}

// Parse returns the address that text stands for, or what is wrong with it.
// What precedes an "@" may be a password, so no such text is quoted.
func (f Forms) Parse(text string) (Address, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "", text
	}
	if strings.Contains(rest, "@") {
		return Address{}, fmt.Errorf("must not contain credentials; use %s", f.Secrets)
	}
	if found && !slices.Contains(f.Schemes, scheme) {
		return Address{}, fmt.Errorf("%q has an unknown scheme; write %v", text, f)
	}
	if strings.HasPrefix(scheme, "unix") {
		if len(rest) < 2 || rest[0] != '/' {
			return Address{}, fmt.Errorf("%q needs an absolute path, as in %s:///run/server.sock", text, scheme)
		}
		return Address{Scheme: scheme, Network: "unix", Target: rest}, nil
	}
	host, path := strings.TrimRight(rest, "/"), ""
	if i := strings.IndexByte(rest, '/'); i >= 0 && f.Paths && found {
		host, path = rest[:i], strings.TrimRight(rest[i:], "/")
	}
	if strings.ContainsAny(path, "?#% \t\r\n") || !found && host != rest {
		return Address{}, fmt.Errorf("%q is not an address; write %v", text, f)
	}
	if name, isName := strings.CutPrefix(host, srvPrefix); isName {
		if !isHostName(name) {
			return Address{}, fmt.Errorf("%q needs the name of a service record and no port, as in %s_etcd-client._tcp.example.com", text, srvPrefix)
		}
		return Address{Scheme: scheme, Network: "srv", Target: name, Path: path}, nil
	}
	host, err := f.hostPort(text, scheme, host)
	return Address{Scheme: scheme, Network: "tcp", Target: host, Path: path}, err
}

// hostPort returns host with a port: that of the scheme, if it may have none.
func (f Forms) hostPort(text, scheme, host string) (string, error) {
	if def := map[string]string{"http": "80", "https": "443"}[scheme]; f.Paths && def != "" && (!strings.Contains(host, ":") || strings.HasSuffix(host, "]")) {
		host += ":" + def
	}
	name, port, err := net.SplitHostPort(host)
	valid := isHostName(name)
	if strings.HasPrefix(host, "[") { // for IPv6 alone, with %25 before the zone in URLs
		ip, _ := netip.ParseAddr(strings.Replace(name, "%25", "%", 1))
		name, valid = ip.String(), ip.Is6() && (ip.Zone() == "" || isHostName(ip.Zone()))
	}
	if err != nil || !valid {
		return "", fmt.Errorf("%q is not an address; write %v", text, f)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("%q has no valid port; allowed are 1 to 65535", text)
	}
	return net.JoinHostPort(name, strconv.FormatUint(n, 10)), nil
}

// isHostName reports whether name has only what a name in the DNS or of IPv4 may have.
func isHostName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-._", r)
	})
}

// same reports whether a and b are one server.
func (a Address) same(b Address) bool {
	return a.Network == b.Network && a.Path == b.Path && (a.Target == b.Target || a.Network != "unix" && strings.EqualFold(a.Target, b.Target))
}

// Transport is what the schemes of addresses say about TLS.
type Transport int

// The transports.
const (
	AnyTransport Transport = iota // up to the configuration of TLS
	PlainText
	OverTLS
)

// Transport returns what the address' scheme says about TLS.
func (a Address) Transport() Transport {
	switch a.Scheme {
	case "http":
		return PlainText
	case "https", "unixs", "tls":
		return OverTLS
	}
	return AnyTransport
}

// Servers parses the addresses of one cluster, in the field of a configuration,
// and returns what secures the connections to them, nil if they are plain.
func (f Forms) Servers(texts []string, field string, use config.TLS) ([]Address, *config.Renewing, error) {
	if len(texts) == 0 {
		return nil, nil, fmt.Errorf("%s: at least one is needed; write %v", field, f)
	}
	all, err := f.ParseAll(texts, func(i int) string { return fmt.Sprintf("%s[%d]", field, i) })
	if err != nil {
		return nil, nil, err
	}
	switch all[0].Transport() {
	case OverTLS:
		if err := use.Validate("tls"); err != nil { // such as a file that is not enabled
			return nil, nil, err
		}
		use.Enabled = true
	case PlainText:
		if use.Enabled {
			return nil, nil, fmt.Errorf("tls.enabled: is true, but the %s begin with http://; write https://", field)
		}
	}
	tls, err := use.Renewing(nil)
	return all, tls, err
}

// ParseAll parses addresses of one cluster, which must agree on the transport.
// Its errors begin with what name returns for the index of the wrong one.
func (f Forms) ParseAll(texts []string, name func(i int) string) ([]Address, error) {
	all := make([]Address, len(texts))
	for i, text := range texts {
		a, err := f.Parse(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name(i), err)
		case i > 0 && a.Transport() != all[0].Transport():
			return nil, fmt.Errorf("%s: %q differs from %q in using TLS; all must begin with https://, or none", name(i), text, texts[0])
		case slices.ContainsFunc(all[:i], a.same):
			return nil, fmt.Errorf("%s: %q is listed twice", name(i), text)
		}
		all[i] = a
	}
	return all, nil
}
