package network

import (
	"errors"
	"net"
	"net/netip"
)

// advertise returns the bound address, or if that is "any", the machine's most
// likely one: private before public, IPv4 before IPv6 as far as this node
// listens on both, loopback last (a laptop without a network).
func (s *sockets) advertise() (netip.Addr, error) {
	if !s.bound.Addr().IsUnspecified() {
		return s.bound.Addr(), nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	return bestAddress(addrs, s.v4 != nil, s.v6 != nil)
}

func bestAddress(addrs []net.Addr, v4, v6 bool) (netip.Addr, error) {
	var best netip.Addr
	bestRank := 0
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		addr := prefix.Addr().Unmap()
		if (addr.Is4() && !v4) || (addr.Is6() && !v6) {
			continue
		}
		if r := rank(addr); r > bestRank {
			best, bestRank = addr, r
		}
	}
	if bestRank == 0 {
		return netip.Addr{}, errors.New("this machine has no address to advertise; set advertise_address")
	}
	return best, nil
}

// rank says how well an address serves to be reached by others; 0: not at all.
func rank(addr netip.Addr) int {
	r := 0
	switch {
	case addr.IsLoopback():
		r = 1
	case !addr.IsGlobalUnicast(): // link-local ones need a zone, which can't be advertised
		return 0
	case addr.IsPrivate():
		r = 5
	default:
		r = 3
	}
	if addr.Is4() {
		r++
	}
	return r
}
