// Package hostconfig reads the configuration of dskit's and Cortex's key-value
// clients into polykv's. Use it through adapters/dskit and adapters/cortex.
//
// Fields are found by their names in YAML, which both hosts share. A field that
// polykv has no counterpart for is reported, if it is set to anything but the
// host's default. Where leaving it out would change what the program relies on,
// that is an error.
package hostconfig

import (
	"errors"
	"fmt"
	"maps"
	"reflect"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver/kit"
	"github.com/polykv/polykv/kv/factory"
)

// Host is the configuration of a host.
type Host struct {
	// KV is the host's kv.Config, Default the same with the host's defaults.
	KV, Default any

	// Memberlist is the host's memberlist.KVConfig, MemberlistDefault the same
	// with the host's defaults. They are looked at where KV chooses that store,
	// and may be nil, or point to nothing, otherwise.
	Memberlist, MemberlistDefault any

	// Switchable: the host is given a channel by which its multi store is
	// switched while it runs.
	Switchable bool
}

// Note tells of a field what became of it.
type Note struct {
	Field string // its name in YAML, "consul.watch_rate_limit" for example
	Flag  string // the host's flag, without the program's prefix
	Value string // as it is set; secrets are never told
	Text  string // what becomes of it
}

// String returns one line.
func (n Note) String() string {
	return fmt.Sprintf("%s (-%s) is %s: %s", n.Field, n.Flag, n.Value, n.Text)
}

// Read returns polykv's configuration for the store that the host's chooses,
// with a note for each field that is set and isn't carried over as it is. The
// result is valid. All errors are joined.
func Read(h Host) (*factory.Config, []Note, error) {
	r := &reader{set: flatten("", h.KV), defaults: flatten("", h.Default)}
	maps.Copy(r.set, flatten("memberlist.", h.Memberlist))
	maps.Copy(r.defaults, flatten("memberlist.", h.MemberlistDefault))
	cfg := factory.NewConfig()
	cfg.Prefix = r.text("prefix")
	store := r.text("store")
	if store == "multi" {
		r.multi(cfg, h.Switchable)
	} else {
		r.store(cfg, "store", store)
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, r.notes, err
	}
	if kv.CheckNamespace(cfg.Prefix) != nil && asRoot(cfg, cfg.Prefix) {
		r.tell("prefix", cfg.Prefix, `becomes the store's root, as it begins with a "/" or ends without one`)
		cfg.Prefix = ""
	}
	if err := cfg.Validate(); err != nil {
		return nil, r.notes, fmt.Errorf("the host's configuration gives one that polykv refuses: %w", err)
	}
	return cfg, r.notes, nil
}

// Fields lists what Read knows of a host's configuration: each field's name in
// YAML with its flag.
func Fields() map[string]string {
	all := map[string]string{"store": "ring.store", "prefix": "ring.prefix"}
	for _, rows := range [][]row{consulRows(), etcdRows(), memberlistRows(), multiRows()} {
		for _, f := range rows {
			all[f.name] = f.flagName()
		}
	}
	for _, name := range []string{"region", "table_name", "puller_sync_time", "max_cas_retries", "timeout"} {
		all["dynamodb."+name] = row{name: "dynamodb." + name}.flagName()
	}
	all["dynamodb.ttl"] = "dynamodb.ttl-time"
	return all
}

// reader holds the fields of a host and what was found out about them.
type reader struct {
	set, defaults map[string]reflect.Value
	notes         []Note
	errs          []error
}

// store fills the section of one store.
func (r *reader) store(cfg *factory.Config, field, name string) {
	cfg.Backend = name
	switch name {
	case "consul":
		r.apply(cfg, consulRows())
	case "etcd":
		r.apply(cfg, etcdRows())
	case "memberlist":
		if _, ok := r.set["memberlist.node_name"]; !ok {
			r.fail(row{name: field}, errors.New("is memberlist, and its configuration was not given"))
			return
		}
		r.apply(cfg, memberlistRows())
		r.tell(field, name, "polykv's gossip; its nodes and the host's own don't understand each other")
	case "inmemory": // all of one process share it, as in the host
	default:
		r.fail(row{name: field}, fmt.Errorf("is %q, which polykv doesn't have; it has consul, etcd, inmemory, memberlist and multi", name))
	}
}

// asRoot makes what stands before all keys, and can't be a prefix of polykv's,
// the root of the stores, if they have one. The keys are the same then.
func asRoot(c *factory.Config, prefix string) bool {
	roots := map[string]*kit.Root{"consul": &c.Consul.Root, "etcd": &c.Etcd.Root}
	if root := roots[c.Backend]; root != nil {
		*root = kit.Root(prefix)
		return true
	}
	return c.Backend == "multi" && asRoot(c.Multi.Primary, prefix) && asRoot(c.Multi.Secondary, prefix)
}

// multi fills both stores.
func (r *reader) multi(cfg *factory.Config, switchable bool) {
	cfg.Backend = "multi"
	r.apply(cfg, multiRows())
	r.store(cfg.Multi.Primary, "multi.primary", r.text("multi.primary"))
	r.store(cfg.Multi.Secondary, "multi.secondary", r.text("multi.secondary"))
	if switchable {
		r.errs = append(r.errs, errors.New("multi: the host switches its stores by its runtime configuration, which polykv doesn't read; "+
			"leave MultiConfig.ConfigProvider nil, and switch by multi.Client.Switch or a coordinated migration"))
	}
}

// apply carries over the fields of one section.
func (r *reader) apply(cfg *factory.Config, rows []row) {
	for _, f := range rows {
		v, ok := r.set[f.name]
		if !ok {
			continue // the other host's
		}
		changed := !same(v, r.defaults[f.name])
		if f.take != nil && (changed || !f.ifSet) {
			f.take(cfg, v)
		}
		if f.check != nil {
			if err := f.check(cfg, v); err != nil {
				r.fail(f, err)
			}
		}
		switch {
		case !changed && (f.inherited == "" || !v.Bool()):
		case !changed:
			r.tell(f.name, f.show(v), f.inherited)
		case f.refuse != "":
			r.fail(f, errors.New(f.refuse))
		case f.note != "":
			r.tell(f.name, f.show(v), f.note)
		}
	}
}

func (r *reader) tell(field, value, text string) {
	r.notes = append(r.notes, Note{Field: field, Flag: Fields()[field], Value: value, Text: text})
}

func (r *reader) fail(f row, err error) {
	r.errs = append(r.errs, fmt.Errorf("%s (-%s): %w", f.name, f.flagName(), err))
}

func (r *reader) text(name string) string {
	if v, ok := r.set[name]; ok {
		return v.String()
	}
	return ""
}
