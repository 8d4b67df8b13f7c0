package network

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

// machineOf is a machine in words: its interfaces, each "name up address…" or
// "name down address…", and from where it sends by its default routes.
func machineOf(t *testing.T, v4, v6 string, ifaces ...string) machine {
	t.Helper()
	parse := func(text string) netip.Addr {
		if text == "" {
			return netip.Addr{}
		}
		addr, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	m := machine{v4: parse(v4), v6: parse(v6)}
	for _, text := range ifaces {
		words := strings.Fields(text)
		i := iface{name: words[0], up: words[1] == "up"}
		for _, addr := range words[2:] {
			i.addrs = append(i.addrs, parse(addr))
		}
		m.ifaces = append(m.ifaces, i)
	}
	return m
}

func TestAdvertisedAddress(t *testing.T) {
	const (
		lo     = "lo up 127.0.0.1 ::1"
		docker = "docker0 up 172.17.0.1"
		idle   = "docker0 down 172.17.0.1"
	)
	m := func(v4, v6 string, ifaces ...string) machine { return machineOf(t, v4, v6, ifaces...) }
	for name, test := range map[string]struct {
		machine machine
		names   string
		family  string // 4, 6 or 46: that the node listens on
		want    string // address, interface and whether it is a guess; or what the error says
	}{
		"public beside docker":            {machine: m("8.8.8.8", "", lo, docker, "eth0 up 8.8.8.8"), family: "4", want: "8.8.8.8 eth0 false"},
		"docker that is down":             {machine: m("8.8.8.8", "", lo, idle, "eth0 up 8.8.8.8"), family: "4", want: "8.8.8.8 eth0 false"},
		"source on loopback":              {machine: m("10.9.9.9", "", "lo up 127.0.0.1 10.9.9.9", "eth0 up 10.0.0.1"), family: "4", want: "10.9.9.9 lo false"},
		"second address of the interface": {machine: m("10.0.0.2", "", lo, "eth0 up 10.0.0.1 10.0.0.2"), family: "4", want: "10.0.0.2 eth0 false"},
		"both families":                   {machine: m("10.0.0.1", "2001:4860::1", lo, "eth0 up 10.0.0.1 2001:4860::1"), family: "46", want: "10.0.0.1 eth0 false"},
		"both, IPv6 alone is bound":       {machine: m("10.0.0.1", "2001:4860::1", lo, "eth0 up 10.0.0.1 2001:4860::1"), family: "6", want: "2001:4860::1 eth0 false"},
		"IPv6 only":                       {machine: m("", "2001:4860::1", lo, "eth0 up fe80::1 2001:4860::1"), family: "46", want: "2001:4860::1 eth0 false"},
		"IPv6 only, IPv4 is bound": {
			machine: m("", "2001:4860::1", lo, "eth0 up 2001:4860::1"), family: "4",
			want: "advertise_address: is empty, and no address fits: the default route goes by eth0 with 2001:4860::1",
		},
		"IPv6 only beside docker, IPv4 is bound": {
			machine: m("", "2001:4860::1", lo, docker, "eth0 up 2001:4860::1"), family: "4", want: "bind_address",
		},
		"IPv6 route, IPv4 on the same": {machine: m("", "2001:4860::1", lo, docker, "eth0 up 2001:4860::1 10.0.0.1"), family: "4", want: "10.0.0.1 eth0 false"},
		"default route is down":        {machine: m("10.0.0.1", "", lo, "eth0 down 10.0.0.1", "eth1 up 10.1.0.1"), family: "4", want: "10.1.0.1 eth1 false"},
		"no default route":             {machine: m("", "", lo, "eth0 up 8.8.8.8", "eth1 up 10.1.0.1 fd00::1"), family: "46", want: "10.1.0.1 eth1 true"},
		"no default route, the first":  {machine: m("", "", lo, "eth0 up 10.0.0.1", docker), family: "4", want: "10.0.0.1 eth0 true"},
		"no default route, one":        {machine: m("", "", lo, "eth0 up 10.0.0.1"), family: "4", want: "10.0.0.1 eth0 false"},
		"nothing but loopback":         {machine: m("", "", lo, "eth0 up fe80::1"), family: "46", want: "127.0.0.1 lo true"},
		"all else is down":             {machine: m("", "", lo, "eth0 down 10.0.0.1", idle), family: "4", want: "eth0 with 10.0.0.1 is down; docker0 with 172.17.0.1 is down"},
		"IPv6 in the neighbourhood":    {machine: m("", "", lo, "eth0 up fd00::1"), family: "4", want: "eth0 has fd00::1, on whose address family"},
		"nothing at all":               {machine: m("", "", "eth0 up fe80::1"), family: "46", want: "advertise_address: is empty, and this machine has no address"},
		"by name":                      {machine: m("10.0.0.1", "", lo, "eth0 up 10.0.0.1", "eth1 up fd00::1 10.1.0.1 10.1.0.2"), names: "eth9 eth1 eth0", family: "46", want: "10.1.0.1 eth1 false"},
		"by name, the first is down":   {machine: m("10.0.0.1", "", lo, "eth0 up 10.0.0.1", "eth1 down 10.1.0.1"), names: "eth1 eth0", family: "4", want: "10.0.0.1 eth0 false"},
		"by name, loopback":            {machine: m("10.0.0.1", "", lo, "eth0 up 10.0.0.1"), names: "lo", family: "4", want: "127.0.0.1 lo false"},
		"by name, none": {
			machine: m("10.0.0.1", "", lo, "eth0 up 10.0.0.1", "eth1 down 10.1.0.1", "eth2 up fe80::1"), names: "eth1 eth2 eth9", family: "46",
			want: "interface_names: none has a usable address: eth1 is down; eth2 has no address of a family that bind_address listens on; eth9 doesn't exist",
		},
	} {
		got, err := test.machine.choose(strings.Fields(test.names), strings.Contains(test.family, "4"), strings.Contains(test.family, "6"))
		said := fmt.Sprint(got.addr, " ", got.iface, " ", got.guess)
		if err != nil {
			said = err.Error()
		}
		if err == nil && (said != test.want || got.why == "") || !strings.Contains(said, test.want) {
			t.Errorf("%s: %s (%s), want %s", name, said, got.why, test.want)
		}
	}
}

func TestChoiceOfTheAddressIsLogged(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"set":   {func(c *Config) { c.AdvertiseAddress = "127.0.0.2" }, "why=advertise_address"},
		"bound": {func(*Config) {}, "why=bind_address"},
		"named": {func(c *Config) { c.BindAddress, c.InterfaceNames = "::", []string{loopbackName(t)} }, "why=interface_names interface=" + loopbackName(t)},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			cfg := testConfig("a")
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			test.change(&cfg)
			n := start(t, cfg, nil)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			line, rest, _ := strings.Cut(log.String(), "\n")
			if !strings.Contains(line, "level=INFO") || !strings.Contains(line, "address="+n.Self().Addr.String()+" "+test.want) || strings.Contains(rest, "why=") {
				t.Errorf("want %q in one line:\n%s", test.want, &log)
			}
		})
	}
}

func loopbackName(t *testing.T) string {
	t.Helper()
	m, err := lookAround()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range m.ifaces {
		if i.up && len(i.addrs) > 0 && i.addrs[0].IsLoopback() {
			return i.name
		}
	}
	t.Fatalf("no loopback interface in %+v", m)
	return ""
}
