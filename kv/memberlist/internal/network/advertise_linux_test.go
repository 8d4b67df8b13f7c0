package network

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inNamespace runs f on a thread that has a network namespace of its own, made
// by the commands of ip(8). The thread ends with f, and the namespace with it.
func inNamespace(t *testing.T, commands string, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("interfaces are made by ip: %v", err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- func() error {
			if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
				return fmt.Errorf("a network namespace: %w", err)
			}
			for command := range strings.Lines(commands) {
				args := strings.Fields(command)
				if len(args) == 0 {
					continue
				}
				if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
					return fmt.Errorf("ip %s: %w: %s", strings.TrimSpace(command), err, out)
				}
			}
			return f()
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestAdvertisedAddressOfRealInterfaces asks the kernel what TestAdvertisedAddress
// only supposes.
func TestAdvertisedAddressOfRealInterfaces(t *testing.T) {
	const (
		eth0 = `
			link set lo up
			link add eth0 type veth peer name far0
			link set far0 up
			link set eth0 up
		`
		public = eth0 + `
			addr add 8.8.8.8/24 dev eth0
			route add default via 8.8.8.1
		`
		only6 = eth0 + `
			addr add 2001:4860::1/64 dev eth0 nodad
			-6 route add default via 2001:4860::2
		`
		docker = `
			link add docker0 type veth peer name far1
			addr add 172.17.0.1/16 dev docker0
			link set docker0 up
		` // whose other end is down: it has no carrier
	)
	for name, test := range map[string]struct {
		commands, names, bind string
		want                  string
	}{
		"a public address beside docker":             {docker + "link set far1 up\n" + public, "", "0.0.0.0", "8.8.8.8 eth0"},
		"docker without carrier":                     {docker + public, "", "0.0.0.0", "8.8.8.8 eth0"},
		"docker without carrier by name":             {docker + public, "docker0 eth0", "0.0.0.0", "8.8.8.8 eth0"},
		"docker by name":                             {docker + "link set far1 up\n" + public, "docker0 eth0", "0.0.0.0", "172.17.0.1 docker0"},
		"the default route's source":                 {public + "addr add 10.9.9.9/32 dev lo\nroute replace default via 8.8.8.1 src 10.9.9.9", "", "0.0.0.0", "10.9.9.9 lo"},
		"IPv6 only":                                  {only6, "", "::", "2001:4860::1 eth0"},
		"IPv6 only, IPv4 is bound":                   {only6, "", "0.0.0.0", "advertise_address: is empty, and no address fits: the default route goes by eth0 with 2001:4860::1"},
		"no route":                                   {eth0 + "addr add 10.0.0.1/24 dev eth0", "", "0.0.0.0", "10.0.0.1 eth0"},
		"the interface of the default route is down": {docker + "link set far1 up\n" + public + "link set far0 down", "", "0.0.0.0", "172.17.0.1 docker0"},
		"nothing but loopback":                       {"link set lo up", "", "0.0.0.0", "127.0.0.1 lo"},
		"nothing":                                    {"link show", "", "0.0.0.0", "advertise_address: is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t, test.commands, func() error {
				s, err := listen(t.Context(), test.bind, 0)
				if err != nil {
					return err
				}
				defer s.close()
				// The kernel takes up to a second to notice that a carrier is gone.
				for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
					got, err := s.advertise(strings.Fields(test.names))
					said := fmt.Sprint(got.addr, " ", got.iface)
					if err != nil {
						said = err.Error()
					}
					if strings.HasPrefix(said, test.want) {
						return nil
					}
					if time.Now().After(deadline) {
						return fmt.Errorf("%s (%s), want %s", said, got.why, test.want)
					}
				}
			})
		})
	}
}
