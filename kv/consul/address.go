package consul

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/polykv/polykv/kv/driver/kit"
)

var addressForms = kit.Forms{Schemes: []string{"http", "https", "unix"}, Paths: true, Secrets: "token or token_file"}

// endpoint is where requests go.
type endpoint struct {
	addresses    []kit.Address
	scheme, host string // of URLs
	path         string // in front of the paths of URLs
	secure       bool
	proxy        func(*http.Request) (*url.URL, error) // nil: none
}

// parseAddresses returns where the servers of Config.Address are.
func parseAddresses(list string) ([]kit.Address, error) {
	texts := strings.Split(cmp.Or(list, defaultAddress), ",")
	for i := range texts {
		texts[i] = strings.TrimSpace(texts[i])
	}
	all, err := addressForms.ParseAll(texts, func(int) string { return "address" })
	if err != nil {
		return nil, err
	}
	for _, a := range all[1:] {
		if a.Path != all[0].Path {
			return nil, errors.New("address: all must have the same path")
		}
	}
	return all, nil
}

// transportOf returns what an address says about TLS, which no socket has.
func transportOf(a kit.Address) kit.Transport {
	if a.Network == "unix" {
		return kit.PlainText
	}
	return a.Transport()
}

// endpoint reports what is wrong with the address, the proxy and TLS.
func (c Config) endpoint() (endpoint, error) {
	all, err := parseAddresses(c.Address)
	if err != nil {
		return endpoint{}, err
	}
	e := endpoint{addresses: all, scheme: "http", host: all[0].Target, path: all[0].Path}
	if all[0].Network != "tcp" {
		e.host = "localhost"
	}
	if c.TLS.Enabled && transportOf(all[0]) == kit.PlainText {
		return endpoint{}, errors.New("tls.enabled: is true, but address begins with http:// or unix://; write https://")
	}
	if err := c.TLS.Validate("tls"); err != nil { // such as a file that is not enabled
		return endpoint{}, err
	}
	if e.secure = c.TLS.Enabled || transportOf(all[0]) == kit.OverTLS; e.secure {
		e.scheme = "https"
	}
	e.proxy, err = c.proxy()
	if err == nil && e.proxy != nil && (len(all) > 1 || all[0].Network != "tcp") {
		err = errors.New("proxy: is set, but address is not a single host:port, which a proxy needs")
	}
	return e, err
}

// proxy returns how the proxy of a request is found, nil for none at all.
func (c Config) proxy() (func(*http.Request) (*url.URL, error), error) {
	text := c.Proxy.Reveal()
	switch text {
	case "":
		return nil, nil
	case proxyFromEnvironment:
		return http.ProxyFromEnvironment, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
		// Not echoed: it may hold a password.
		return nil, errors.New("proxy: is not an URL of a proxy; write http://host:port, https://host:port, socks5://host:port or " + proxyFromEnvironment)
	}
	return http.ProxyURL(u), nil
}

// proxied reports whether requests to e pass a proxy.
func (e endpoint) proxied() bool {
	if e.proxy == nil {
		return false
	}
	u, err := e.proxy(&http.Request{URL: &url.URL{Scheme: e.scheme, Host: e.host}})
	return err == nil && u != nil
}

// hostname returns host without its port.
func (e endpoint) hostname() string { return (&url.URL{Host: e.host}).Hostname() }
