package kit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv/config"
)

var (
	ports = Forms{Schemes: []string{"http", "https", "unix", "unixs", "tls"}, Secrets: "username and password"}
	paths = Forms{Schemes: []string{"http", "https", "unix"}, Paths: true, Secrets: "token"}
)

func TestFormsAreListed(t *testing.T) {
	for want, forms := range map[string]Forms{
		"host:port or dnssrv+name":                                  {},
		"host:port, https://host:port, unix:///path or dnssrv+name": {Schemes: []string{"https", "unix"}},
	} {
		if got := forms.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]Address{
		"a:1":                              {"", "tcp", "a:1", ""},
		"a:65535":                          {"", "tcp", "a:65535", ""},
		"a:080":                            {"", "tcp", "a:80", ""},
		"http://a:1":                       {"http", "tcp", "a:1", ""},
		"http://a:1//":                     {"http", "tcp", "a:1", ""},
		"tls://10.0.0.1:1":                 {"tls", "tcp", "10.0.0.1:1", ""},
		"Some_Host-2.Example.:1":           {"", "tcp", "Some_Host-2.Example.:1", ""},
		"bücher.example:1":                 {"", "tcp", "bücher.example:1", ""},
		"[::1]:1":                          {"", "tcp", "[::1]:1", ""},
		"[0:0::0:1]:1":                     {"", "tcp", "[::1]:1", ""},
		"[FE80::1%eth0]:1":                 {"", "tcp", "[fe80::1%eth0]:1", ""},
		"https://[fe80::1%25br-a_b.7]:1":   {"https", "tcp", "[fe80::1%br-a_b.7]:1", ""},
		"unix:///run/a b.sock":             {"unix", "unix", "/run/a b.sock", ""},
		"unixs:///a":                       {"unixs", "unix", "/a", ""},
		"dnssrv+_a._tcp.example.com":       {"", "srv", "_a._tcp.example.com", ""},
		"https://dnssrv+_a._tcp.example.":  {"https", "srv", "_a._tcp.example.", ""},
		"https://dnssrv+_a._tcp.example./": {"https", "srv", "_a._tcp.example.", ""},
	} {
		if got, err := ports.Parse(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]Address{
		"a:1":                  {"", "tcp", "a:1", ""},
		"http://a":             {"http", "tcp", "a:80", ""},
		"https://a":            {"https", "tcp", "a:443", ""},
		"https://a/":           {"https", "tcp", "a:443", ""},
		"http://a:1/b/c//":     {"http", "tcp", "a:1", "/b/c"},
		"http://[::1]":         {"http", "tcp", "[::1]:80", ""},
		"https://[::1]:1/b":    {"https", "tcp", "[::1]:1", "/b"},
		"http://dnssrv+a/b":    {"http", "srv", "a", "/b"},
		"unix:///run/a/b.sock": {"unix", "unix", "/run/a/b.sock", ""},
	} {
		if got, err := paths.Parse(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestBadAddresses(t *testing.T) {
	const secret = "hidden"
	for want, texts := range map[string][]string{
		"is not an address; write host:port": {
			"", "a", ":1", "a:1:2", "a:1/", "a/b:1", "http://", "http:///", "http://a:1:2", "http://::1", "http://::1:80",
			"[a]:1", "[a:1]:2", "[1.2.3.4]:1", "[::1", "[::1]", "[::1]1", "a]:1", "a[:1", "[]:1", "[fe80::1%]:1", "[fe80::1%a b]:1", "[::1%25]:1",
			"a,b:1", "a b:1", "a%:1", "a\n:1", "a?b:1", "http://[::1", "http://[a]", "http://a]", "http://[::1]b",
		},
		"no valid port; allowed are 1 to 65535": {"a:", "a:0", "a:65536", "a:-1", "a:+1", "a:b", "a:1/b", "a:1?b", "a:1#b", "http://a:"},
		"needs the name of a service record": {
			"dnssrv+", "dnssrv+a:1", "dnssrv+a b", "dnssrv+a?b", "http://dnssrv+a:1", "http://dnssrv+",
		},
		"unknown scheme; write host:port, http://host:port": {"ftp://a:1", "HTTP://a:1", "://a:1", "dnssrv://a"},
		"needs an absolute path, as in unix:///run/server.sock": {
			"unix://", "unix:///", "unix://a", "unix://a/b",
		},
		"must not contain credentials; use ": {"u:" + secret + "@a:1", "http://u:" + secret + "@a:1", "ftp://" + secret + "@a", "unix:///" + secret + "@a"},
	} {
		for _, text := range texts {
			for _, forms := range []Forms{ports, paths} {
				_, err := forms.Parse(text)
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
					t.Errorf("%q: %v; want %q", text, err, want)
				}
			}
		}
	}
	for _, text := range []string{"http://a", "https://a", "http://[::1]", "http://a:1/b", "tls://a"} {
		if a, err := ports.Parse(text); err == nil {
			t.Errorf("%s without port, or with a path: %+v", text, a)
		}
	}
	for _, text := range []string{"http://a:1/b?c", "http://a:1/b#c", "http://a:1/%62", "http://a:1/b c", "http://a:1/b\tc", "http://a:1/b\r", "http://a:1/b\n"} {
		if a, err := paths.Parse(text); err == nil {
			t.Errorf("%s: %+v", text, a)
		}
	}
}

func TestSchemesSayWhetherTLSIsUsed(t *testing.T) {
	for scheme, want := range map[string]Transport{
		"http": PlainText, "https": OverTLS, "unixs": OverTLS, "tls": OverTLS, "": AnyTransport, "unix": AnyTransport, "nats": AnyTransport,
	} {
		if got := (Address{Scheme: scheme}).Transport(); got != want {
			t.Errorf("%q: %v, want %v", scheme, got, want)
		}
	}
}

func TestServers(t *testing.T) {
	files := config.TLS{CAFile: "/nowhere/ca.pem"}
	for _, test := range []struct {
		texts  string // with commas between them
		use    config.TLS
		want   string // the error, or "plain" or "secure"
		method Forms
	}{
		{"a:1,b:1,unix:///a,unix:///A", config.TLS{}, "plain", ports},
		{"http://a:1,http://b:1", config.TLS{}, "plain", ports},
		{"a:1", config.TLS{Enabled: true}, "secure", ports},
		{"https://a:1,unixs:///a,tls://b:1", config.TLS{}, "secure", ports},
		{"https://a:1", config.TLS{Enabled: true}, "secure", ports},
		{"", config.TLS{}, "f: at least one is needed; write host:port,", ports},
		{"a:1,b", config.TLS{}, `f[1]: "b" is not an address`, ports},
		{"https://a:1,http://b:1", config.TLS{}, `f[1]: "http://b:1" differs from "https://a:1" in using TLS`, ports},
		{"a:1,http://b:1", config.TLS{}, `f[1]: "http://b:1" differs from "a:1" in using TLS`, ports},
		{"http://a:1", config.TLS{Enabled: true}, "tls.enabled: is true, but the f begin with http://", ports},
		{"https://a:1", files, "tls.ca_file: ", ports},
		{"a:1", files, "tls.ca_file: ", ports},
		{"a:1,b:1,a:1", config.TLS{}, `f[2]: "a:1" is listed twice`, ports},
		{"a:1,A:1", config.TLS{}, `f[1]: "A:1" is listed twice`, ports},
		{"https://a:1,tls://a:01/", config.TLS{}, `f[1]: "tls://a:01/" is listed twice`, ports},
		{"[::1]:1,[0::1]:1", config.TLS{}, `f[1]: "[0::1]:1" is listed twice`, ports},
		{"unix:///a,unix:///a", config.TLS{}, `f[1]: "unix:///a" is listed twice`, ports},
		{"dnssrv+a.b,dnssrv+A.b", config.TLS{}, `f[1]: "dnssrv+A.b" is listed twice`, ports},
		{"dnssrv+a,a:1", config.TLS{}, "plain", ports},
		{"http://a,http://a:80/", config.TLS{}, `f[1]: "http://a:80/" is listed twice`, paths},
		{"http://a/b,http://a/c", config.TLS{}, "plain", paths},
	} {
		texts := slices.DeleteFunc(strings.Split(test.texts, ","), func(text string) bool { return text == "" })
		all, tls, err := test.method.Servers(texts, "f", test.use)
		got := fmt.Sprint(err)
		if err == nil && len(all) == len(texts) {
			got = map[bool]string{false: "plain", true: "secure"}[tls != nil]
		}
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s, want %s", test.texts, got, test.want)
		}
	}
}
