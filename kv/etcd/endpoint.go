package etcd

import (
	"errors"
	"fmt"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver/kit"
)

var endpointForms = kit.Forms{Schemes: []string{"http", "https", "unix", "unixs"}, Secrets: "username and password"}

// addresses reports the first wrong endpoint, and what is wrong with TLS. The
// endpoints must agree on the transport, since gRPC secures all connections of
// a client in one way. The second result is nil for plain connections.
func (c Config) addresses() ([]kit.Address, *config.Renewing, error) {
	all, err := endpointForms.ParseAll(c.Endpoints, func(i int) string { return fmt.Sprintf("endpoints[%d]", i) })
	if err != nil && len(c.Endpoints) == 0 {
		err = fmt.Errorf("endpoints: %w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	use := c.TLS
	switch all[0].Transport() {
	case kit.OverTLS:
		if err := c.TLS.Validate("tls"); err != nil { // such as a file that is not enabled
			return nil, nil, err
		}
		use.Enabled = true
	case kit.PlainText:
		if c.TLS.Enabled {
			return nil, nil, errors.New("tls.enabled: is true, but the endpoints begin with http://; write https://")
		}
	}
	tls, err := use.Renewing(nil)
	return all, tls, err
}
