package factory_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/factory"
)

func TestZeroDriversWork(t *testing.T) {
	var drivers factory.Drivers
	cfg := drivers.NewConfig()
	cfg.Backend = "etcd"
	wantError(t, cfg.Validate(), `backend: unknown backend "etcd"; choose one of: none`)

	if err := drivers.Add(boltDriver()); err != nil {
		t.Fatal(err)
	}
	wantError(t, cfg.Validate(), "none") // a configuration keeps the set it was made of
	cfg = drivers.NewConfig()
	wantError(t, cfg.Load(strings.NewReader("etcd: {}")), `line 1: etcd: unknown field; known here: backend, bolt, client, multi, prefix`)
	cfg.Backend = "bolt"
	cfg.Section("bolt").(*boltConfig).Path = "/data"
	client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	mustPut(t, client, "a", "1")
}

func TestAddRefuses(t *testing.T) {
	drivers := withBolt()
	wantError(t, drivers.Add(boltDriver()), `there is already a driver "bolt"; the drivers are: bolt, `)
	wantError(t, drivers.Add(factory.Driver{Name: "x"}), "StoreDriver or ClientDriver")
	for _, name := range []string{"", "Bolt", "a.b", "a/b", "a:b", "a`b", "a{b", "1x", "-x", "_x", "{", "`", "a b", "client", "prefix", "backend", "multi"} {
		d := boltDriver()
		d.Name = name
		if err := drivers.Add(d); err == nil {
			t.Errorf("a driver named %q was added", name)
		}
	}
	for _, name := range []string{"a", "z", "az", "a0", "a9", "a-b", "a_b", "b5-_c"} {
		d := boltDriver()
		d.Name = name
		if err := drivers.Add(d); err != nil {
			t.Error(err)
		}
	}
	for name, section := range map[string]factory.Section{"nothing": nil, "no pointer": noPointer{}, "no struct": new(noStruct)} {
		d := factory.StoreDriver("x", func() factory.Section { return section },
			func(context.Context, factory.Section, factory.Env) (driver.Store, error) { return nil, nil })
		if err := drivers.Add(d); err == nil || !strings.Contains(err.Error(), "not a pointer to a struct") {
			t.Errorf("a section that is %s: %v", name, err)
		}
	}
}

// Sections of kinds that a section can't be.
type (
	noPointer struct{}
	noStruct  int
)

func (noPointer) RegisterFlags(*pflag.FlagSet, string) {}
func (noPointer) Validate() error                      { return nil }
func (noStruct) RegisterFlags(*pflag.FlagSet, string)  {}
func (noStruct) Validate() error                       { return nil }

func TestOnly(t *testing.T) {
	drivers, err := withBolt().Only("inmemory", "bolt", "bolt")
	if err != nil || !slices.Equal(drivers.Names(), []string{"bolt", "inmemory"}) {
		t.Fatalf("%v, %v", drivers, err)
	}
	cfg := drivers.NewConfig()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	cfg.RegisterFlags(fs, "")
	usage := fs.FlagUsages()
	for _, gone := range []string{"--etcd.", "--consul.", "--memberlist.", "--multi.", "multi"} {
		if strings.Contains(usage, gone) {
			t.Errorf("%s is still in the flags", gone)
		}
	}
	for _, left := range []string{"--backend ", "--prefix ", "--client.retry-timeout ", "--bolt.path ", "--inmemory.name "} {
		if !strings.Contains(usage, left) {
			t.Errorf("%s is missing in the flags", left)
		}
	}
	for _, section := range []string{"etcd: {}", "multi: {}"} {
		wantError(t, cfg.Load(strings.NewReader(section)), "unknown field; known here: backend, bolt, client, inmemory, prefix")
	}
	if text := cfg.String(); strings.Contains(text, "etcd") || strings.Contains(text, "multi") {
		t.Errorf("it is printed as %s", text)
	}
	for _, name := range []string{"etcd", "multi"} {
		if cfg.Section(name) != nil {
			t.Errorf("there is still a section %s", name)
		}
		cfg.Backend = name
		wantError(t, cfg.Validate(), `backend: unknown backend "`+name+`"; choose one of: bolt, inmemory`)
	}
	t.Setenv("TEST_ETCD_PASSWORD", "x") // another program's, then
	if err := cfg.LoadEnv("TEST_"); err != nil {
		t.Error(err)
	}
	cfg.Backend, cfg.InMemory.Name = "inmemory", t.Name()
	client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	mustPut(t, client, "a", "1")
}

func TestOnlyWithMulti(t *testing.T) {
	drivers, err := withBolt().Only("multi", "bolt")
	if err != nil {
		t.Fatal(err)
	}
	cfg := drivers.NewConfig()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	cfg.RegisterFlags(fs, "")
	if fs.Lookup("multi.primary.bolt.path") == nil || fs.Lookup("multi.primary.etcd.endpoints") != nil {
		t.Error("the flags of two stores are not those of the driver that is left")
	}
	if err := cfg.Load(strings.NewReader("multi: {secondary: {backend: bolt}}")); err != nil || cfg.Multi.Secondary.Backend != "bolt" {
		t.Error(err)
	}
	less, err := drivers.Only("bolt")
	if err != nil {
		t.Fatal(err)
	}
	_, err = less.Only("bolt", "multi")
	wantError(t, err, `factory: Only: unknown backend "multi"; choose one of: bolt`)
	_, err = drivers.Only("etdc")
	wantError(t, err, `factory: Only: unknown backend "etdc"; choose one of: bolt`)
}

func TestACopyOfDriversIsASetOfItsOwn(t *testing.T) {
	a := factory.Builtin()
	b := a
	if err := a.Add(boltDriver()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(b.Names(), "bolt") || !slices.Contains(a.Names(), "bolt") {
		t.Errorf("a has %v, b has %v", a.Names(), b.Names())
	}
	if err := b.Add(selfDriver()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(a.Names(), "self") {
		t.Errorf("a has %v", a.Names())
	}
}

func TestClientDriver(t *testing.T) {
	cfg := withBolt().NewConfig()
	cfg.Backend, cfg.Prefix = "self", "app/"
	client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	mustPut(t, client, "a", "1")
	if err := kv.Ping(t.Context(), client); err != nil {
		t.Error(err)
	}
}

func mustPut(t *testing.T, client kv.Client, key, value string) {
	t.Helper()
	if err := client.CAS(t.Context(), key, func(any) (any, bool, error) { return value, false, nil }); err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err is one line with all the given parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want one with %q", parts)
		return
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error is\n\t%s\nand lacks\n\t%s", err, part)
		}
	}
}
