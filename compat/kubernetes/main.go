// Command kubernetes links the storage of Kubernetes' API server, and the client
// of Kubernetes, beside polykv. Each writes and reads on the same etcd.
//
//	kubernetes -endpoint 127.0.0.1:2379
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	storagefactory "k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/factory"
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
	store, closeStore, err := newStorage(endpoint)
	if err != nil {
		return err
	}
	defer closeStore()
	return errors.Join(
		wrap("the API server's storage", useStorage(ctx, store)),
		wrap("the client", useClient(ctx, store)),
		wrap("polykv", usePolykv(ctx, endpoint)),
	)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// newStorage is the storage of one resource, as an API server opens it.
func newStorage(endpoint string) (storage.Interface, func(), error) {
	cfg := storagebackend.NewDefaultConfig("compat", scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion))
	cfg.Transport.ServerList = []string{"http://" + endpoint}
	return storagefactory.Create(*cfg.ForResource(schema.GroupResource{Resource: "configmaps"}),
		func() runtime.Object { return &corev1.ConfigMap{} }, func() runtime.Object { return &corev1.ConfigMapList{} }, "/configmaps")
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Data:       map[string]string{"written": "by " + name},
	}
}

func key(name string) string { return "/configmaps/default/" + name }

// same fails if what was read isn't what was written.
func same(got *corev1.ConfigMap, name string) error {
	if got.Data["written"] != "by "+name {
		return fmt.Errorf("read %v", got.Data)
	}
	return nil
}

func useStorage(ctx context.Context, s storage.Interface) error {
	if err := s.Create(ctx, key("storage"), configMap("storage"), nil, 0); err != nil {
		return err
	}
	var got corev1.ConfigMap
	if err := s.Get(ctx, key("storage"), storage.GetOptions{}, &got); err != nil {
		return err
	}
	return same(&got, "storage")
}

// useClient writes and reads by Kubernetes' client, through as much of an API as
// that takes.
func useClient(ctx context.Context, s storage.Interface) (err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: api(s), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		err = errors.Join(err, server.Close())
		if end := <-served; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: "http://" + listener.Addr().String(), Transport: transport,
		ContentConfig: rest.ContentConfig{ContentType: "application/json"},
	})
	if err != nil {
		return err
	}
	maps := client.CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, configMap("client"), metav1.CreateOptions{}); err != nil {
		return err
	}
	got, err := maps.Get(ctx, "client", metav1.GetOptions{})
	if err != nil {
		return err
	}
	return same(got, "client")
}

func api(s storage.Interface) http.Handler {
	answer := func(w http.ResponseWriter, m *corev1.ConfigMap, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(m)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/namespaces/default/configmaps", func(w http.ResponseWriter, r *http.Request) {
		var m, created corev1.ConfigMap
		err := json.NewDecoder(r.Body).Decode(&m)
		if err == nil {
			err = s.Create(r.Context(), key(m.Name), &m, &created, 0)
		}
		answer(w, &created, err)
	})
	mux.HandleFunc("GET /api/v1/namespaces/default/configmaps/{name}", func(w http.ResponseWriter, r *http.Request) {
		var m corev1.ConfigMap
		err := s.Get(r.Context(), key(r.PathValue("name")), storage.GetOptions{}, &m)
		m.TypeMeta = configMap("").TypeMeta
		answer(w, &m, err)
	})
	return mux
}

func usePolykv(ctx context.Context, endpoint string) (err error) {
	cfg := factory.NewConfig()
	cfg.Backend, cfg.Etcd.Endpoints = "etcd", []string{endpoint}
	client, err := factory.New(ctx, cfg, codec.String{}, factory.Deps{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	err = client.CAS(ctx, "compat/polykv", func(any) (any, bool, error) { return "by polykv", true, nil })
	if err != nil {
		return err
	}
	if got, err := client.Get(ctx, "compat/polykv"); err != nil || got != "by polykv" {
		return fmt.Errorf("read %v: %w", got, err)
	}
	return nil
}
