package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// A choice is the address under which others reach this node, and why it is
// that one.
type choice struct {
	addr  netip.Addr
	iface string // that has it; "": not looked up
	why   string
	guess bool // something that an operator should look at
}

// advertise returns the bound address, or if that is "any", one of the machine:
// of the first interface in names that has one, or of the default route.
func (s *sockets) advertise(names []string) (choice, error) {
	if !s.bound.Addr().IsUnspecified() {
		return choice{addr: s.bound.Addr(), why: "bind_address"}, nil
	}
	m, err := lookAround()
	if err != nil {
		return choice{}, err
	}
	return m.choose(names, s.v4 != nil, s.v6 != nil)
}

// A machine is what choosing an address has to know of one.
type machine struct {
	ifaces []iface    // in the order of their numbers
	v4, v6 netip.Addr // from which it sends by the default route; zero: there is none
}

type iface struct {
	name  string
	up    bool // and has a carrier
	addrs []netip.Addr
}

// lookAround asks the operating system.
func lookAround() (machine, error) {
	all, err := net.Interfaces()
	if err != nil {
		return machine{}, err
	}
	// Documentation addresses: nobody has them, so nothing but the default route
	// leads there.
	m := machine{v4: sourceFor("udp4", "203.0.113.1:9"), v6: sourceFor("udp6", "[2001:db8::1]:9")}
	for _, i := range all {
		const working = net.FlagUp | net.FlagRunning
		seen := iface{name: i.Name, up: i.Flags&working == working}
		addrs, err := i.Addrs()
		if err != nil { // it went away meanwhile
			continue
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				seen.addrs = append(seen.addrs, prefix.Addr().Unmap())
			}
		}
		m.ifaces = append(m.ifaces, seen)
	}
	return m, nil
}

// sourceFor returns from which address the machine would send there. Nothing is
// sent: a datagram socket only asks for the route when it is connected.
func sourceFor(network, to string) netip.Addr {
	conn, err := net.Dial(network, to)
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = conn.Close() }()
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	return addr.AddrPort().Addr().Unmap()
}

// choose returns the address for a node that listens on the families v4 and v6.
func (m machine) choose(names []string, v4, v6 bool) (choice, error) {
	listens := func(a netip.Addr) bool { return (a.Is4() && v4) || (a.Is6() && v6) }
	if len(names) > 0 {
		return m.named(names, listens)
	}
	var deaf []string // default routes of families that the node doesn't listen on
	for _, src := range []netip.Addr{m.v4, m.v6} {
		i, ok := m.holder(src)
		if !ok {
			continue
		}
		if listens(src) {
			return choice{addr: src, iface: i.name, why: "it is the default route's"}, nil
		}
		if addr := i.usable(listens); addr.IsGlobalUnicast() {
			return choice{addr: addr, iface: i.name, why: "it is of the default route's interface"}, nil
		}
		deaf = append(deaf, fmt.Sprintf("the default route goes by %s with %s, on whose address family bind_address doesn't listen", i.name, src))
	}
	if len(deaf) > 0 {
		return choice{}, nothing(deaf)
	}
	return m.likeliest(listens)
}

// usable returns the first address of a family that the node listens on, IPv4
// before IPv6. Link-local ones need a zone, which can't be advertised.
func (i iface) usable(listens func(netip.Addr) bool) (best netip.Addr) {
	for _, addr := range i.addrs {
		if listens(addr) && (addr.IsGlobalUnicast() || addr.IsLoopback()) && (!best.IsValid() || best.Is6() && addr.Is4()) {
			best = addr
		}
	}
	return best
}

// holder returns the interface that has an address by which others can reach
// it now.
func (m machine) holder(addr netip.Addr) (iface, bool) {
	at := slices.IndexFunc(m.ifaces, func(i iface) bool { return i.up && slices.Contains(i.addrs, addr) })
	if at < 0 || !addr.IsGlobalUnicast() {
		return iface{}, false
	}
	return m.ifaces[at], true
}

// named returns the first usable address of the first of the interfaces that
// has one, IPv4 before IPv6.
func (m machine) named(names []string, listens func(netip.Addr) bool) (choice, error) {
	var why []string
	for _, name := range names {
		at := slices.IndexFunc(m.ifaces, func(i iface) bool { return i.name == name })
		switch {
		case at < 0:
			why = append(why, name+" doesn't exist")
			continue
		case !m.ifaces[at].up:
			why = append(why, name+" is down")
			continue
		}
		if addr := m.ifaces[at].usable(listens); addr.IsValid() {
			return choice{addr: addr, iface: name, why: "interface_names"}, nil
		}
		why = append(why, fmt.Sprintf("%s has no address of a family that bind_address listens on", name))
	}
	return choice{}, fmt.Errorf("interface_names: none has a usable address: %s", strings.Join(why, "; "))
}

// likeliest returns the address of a machine without a default route: private
// before public, IPv4 before IPv6, of the first interface. Loopback is for a
// machine that has nothing else: it can have no neighbours.
func (m machine) likeliest(listens func(netip.Addr) bool) (choice, error) {
	var best, loopback choice
	var why []string
	bestRank, others := 0, 0
	for _, i := range m.ifaces {
		for _, addr := range i.addrs {
			switch {
			case addr.IsLoopback():
				if i.up && listens(addr) && (!loopback.addr.IsValid() || loopback.addr.Is6() && addr.Is4()) {
					loopback = choice{addr: addr, iface: i.name, why: "the machine has no other", guess: true}
				}
			case !i.up:
				why = append(why, fmt.Sprintf("%s with %s is down", i.name, addr))
			case !addr.IsGlobalUnicast():
			case !listens(addr):
				why = append(why, fmt.Sprintf("%s has %s, on whose address family bind_address doesn't listen", i.name, addr))
			default:
				others++
				if r := rank(addr); r > bestRank {
					best, bestRank = choice{addr: addr, iface: i.name, why: "there is no default route, and it is the likeliest"}, r
				}
			}
		}
	}
	switch {
	case best.addr.IsValid():
		best.guess = others > 1
		return best, nil
	case len(why) == 0 && loopback.addr.IsValid():
		return loopback, nil
	}
	return choice{}, nothing(why)
}

// nothing says what was found instead of an address.
func nothing(why []string) error {
	if len(why) == 0 {
		return errors.New("advertise_address: is empty, and this machine has no address; set it")
	}
	return fmt.Errorf("advertise_address: is empty, and no address fits: %s; set it, interface_names or bind_address", strings.Join(why, "; "))
}

// rank says how well an address of a machine without a default route serves.
func rank(addr netip.Addr) int {
	r := 1
	if addr.IsPrivate() {
		r = 3
	}
	if addr.Is4() {
		r++
	}
	return r
}
