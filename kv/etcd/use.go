package etcd

import (
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// Use returns a store over a client of the program's own, with its endpoints,
// credentials, user and interceptors. Of cfg it takes what is about requests:
// Root, SerializableReads, MaxRequestBytes and ScanPageSize. Closing the
// store leaves the client as it is.
//
// What depends on connections of our own is not promised then: if the client's
// interceptors send a write again, it may be applied twice (C7); how soon a dead
// server is noticed, and whether certificates and passwords are read again, is
// up to the client; and a refused certificate is tried again until time is up,
// since it can't be told from a server out of reach.
func Use(client *clientv3.Client, cfg Config) (driver.Store, error) {
	if client == nil {
		return nil, errors.New("etcd: the client is nil")
	}
	cfg.Username, cfg.Password, cfg.PasswordFile = "", config.Secret{}, "" // the client logs in
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	s := newStore(cfg)
	s.client, s.hosts = client, true
	s.connect("", nil)
	s.tasks.Go(s.watchConnection)
	return s, nil
}

// watchConnection begins another epoch each time that no server is in reach.
func (s *store) watchConnection() {
	conn := s.client.ActiveConnection()
	for state := conn.GetState(); conn.WaitForStateChange(s.base, state); state = conn.GetState() {
		s.history.Connected()
		if state == connectivity.Shutdown {
			return
		}
	}
}
