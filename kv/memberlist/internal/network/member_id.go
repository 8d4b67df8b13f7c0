package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
)

// memberID is a node's name for memberlist: another one after each start, so
// that a node that comes back at another address is no conflict but new.
func memberID(name string, instance uint64) string {
	return fmt.Sprintf("%s/%016x", name, instance)
}

func parseID(id string) (name string, instance uint64, err error) {
	i := strings.LastIndexByte(id, '/')
	if i <= 0 || len(id)-i != 17 || len(id) > maxMemberID || !utf8.ValidString(id) {
		return "", 0, fmt.Errorf("%.200q is not the name of a node", id)
	}
	instance, err = strconv.ParseUint(id[i+1:], 16, 64)
	if err != nil {
		return "", 0, fmt.Errorf("%.200q is not the name of a node: %w", id, err)
	}
	if name = id[:i]; memberID(name, instance) != id { // else two members could be the same instance
		return "", 0, fmt.Errorf("%.200q is not the name of a node: it should be %.200q", id, memberID(name, instance))
	}
	return name, instance, nil
}

// Metadata of a node: 1 byte version, 8 bytes milliseconds of its start; and its
// founding, if it has no label.
const (
	metaVersion = 1
	metaSize    = 1 + 8
)

func encodeMeta(started time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{metaVersion}, uint64(started.UnixMilli()))
}

// peerOf copies a node.
func peerOf(node *memberlist.Node) (Peer, error) {
	name, instance, err := parseID(node.Name)
	if err != nil {
		return Peer{}, err
	}
	ip, ok := netip.AddrFromSlice(node.Addr)
	ip = ip.Unmap()
	if !ok || node.Port == 0 || ip.IsUnspecified() || ip.IsMulticast() {
		return Peer{}, fmt.Errorf("node %q has the address %v:%d", name, node.Addr, node.Port)
	}
	if len(node.Meta) < metaSize || len(node.Meta) > maxMeta || node.Meta[0] != metaVersion {
		return Peer{}, fmt.Errorf("node %q has unknown metadata of %d bytes", name, len(node.Meta))
	}
	addr := netip.AddrPortFrom(ip, node.Port)
	return Peer{
		ID: strings.Clone(node.Name), Name: strings.Clone(name), Instance: instance, Addr: addr,
		Started: time.UnixMilli(int64(binary.BigEndian.Uint64(node.Meta[1:]))), udp: net.UDPAddrFromAddrPort(addr),
	}, nil
}
