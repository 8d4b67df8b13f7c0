// Command etcd35 is a program with etcd's client 3.5 and polykv beside it, on
// the same server: it writes by one and reads by the other, both ways.
//
//	etcd35 -endpoint 127.0.0.1:2379
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/etcd"
)

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:2379", "an etcd server")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, *endpoint); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, endpoint string) (err error) {
	plain, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	cfg := etcd.DefaultConfig()
	cfg.Endpoints = []string{endpoint}
	store, err := etcd.Open(cfg, nil)
	if err != nil {
		return err
	}
	client := kv.New(store, codec.String{}, nil)
	defer func() { err = errors.Join(err, client.Close()) }()

	if _, err := plain.Put(ctx, "compat/a", "of the plain client"); err != nil {
		return err
	}
	value, err := client.Get(ctx, "compat/a")
	if err != nil || value != "of the plain client" {
		return fmt.Errorf("polykv reads %v: %w", value, err)
	}
	err = client.CAS(ctx, "compat/a", func(any) (any, bool, error) { return "of polykv", true, nil })
	if err != nil {
		return err
	}
	got, err := plain.Get(ctx, "compat/a")
	if err != nil {
		return err
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "of polykv" {
		return fmt.Errorf("the plain client reads %v", got.Kvs)
	}
	return nil
}
