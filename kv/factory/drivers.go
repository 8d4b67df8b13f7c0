package factory

import (
	"fmt"
	"slices"
	"strings"
)

// Drivers is a set of backends to choose from. The zero value is empty and
// ready to use; [Builtin] returns the set of polykv's own. A copy is a set of
// its own: adding to one doesn't change the other.
//
// Add must not run at the same time as other methods; those may run
// concurrently.
type Drivers struct {
	list   []Driver // sorted by name, never modified in place
	single bool     // without the backend "multi"
}

// Only returns a set of those drivers of d that are named, for a program that
// wants no more: its configurations have no flags and no sections of others.
// The backend "multi", which is two stores, stays if it is named too. It fails
// on a name that d doesn't have, and lists those that it has.
//
//	drivers, err := factory.Builtin().Only("etcd", "inmemory")
func (d Drivers) Only(names ...string) (Drivers, error) {
	only := Drivers{single: d.single || !slices.Contains(names, multiBackend)}
	for _, name := range names {
		if name == multiBackend && !d.single {
			continue
		}
		driver, err := d.lookup(name)
		if err != nil {
			return Drivers{}, fmt.Errorf("factory: Only: %w", err)
		}
		if i, found := only.search(name); !found {
			only.list = slices.Insert(only.list, i, driver)
		}
	}
	return only, nil
}

// Add adds d. It fails on a name that is already there, in which case the
// error lists the names that are, and on one that can't be a name.
func (d *Drivers) Add(driver Driver) error {
	if err := driver.check(); err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	i, found := d.search(driver.Name)
	if found {
		return fmt.Errorf("factory: there is already a driver %q; the drivers are: %s", driver.Name, d)
	}
	d.list = slices.Insert(slices.Clone(d.list), i, driver)
	return nil
}

// Names returns the names of the drivers, sorted. The slice is the caller's.
func (d Drivers) Names() []string {
	names := make([]string, len(d.list))
	for i, driver := range d.list {
		names[i] = driver.Name
	}
	return names
}

// Libraries returns the module paths of the libraries that the drivers use
// (Driver.Library), sorted, each once. The slice is the caller's.
func (d Drivers) Libraries() []string {
	var all []string
	for _, driver := range d.list {
		if driver.Library != "" {
			all = append(all, driver.Library)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// String returns the names, separated by ", ", or "none".
func (d Drivers) String() string {
	if len(d.list) == 0 {
		return "none"
	}
	return strings.Join(d.Names(), ", ")
}

// NewConfig returns a configuration that chooses among these drivers, with the
// defaults of each.
func (d Drivers) NewConfig() *Config { return d.newConfig(false) }

// newConfig is NewConfig, or the same for one of two stores.
func (d *Drivers) newConfig(side bool) *Config {
	c := &Config{drivers: d, side: side, other: map[string]Section{}}
	for _, driver := range d.list {
		if driver.field == nil {
			c.other[driver.Name] = driver.newSection()
		}
	}
	c.setDefaults()
	return c
}

func (d Drivers) search(name string) (int, bool) {
	return slices.BinarySearchFunc(d.list, name, func(driver Driver, name string) int {
		return strings.Compare(driver.Name, name)
	})
}

// lookup finds a driver by its name. The error lists the known ones.
func (d Drivers) lookup(name string) (Driver, error) {
	i, found := d.search(name)
	switch {
	case found:
		return d.list[i], nil
	case name == "":
		return Driver{}, fmt.Errorf("not set; choose one of: %s", d)
	default:
		return Driver{}, fmt.Errorf("unknown backend %q%s; choose one of: %s", name, didYouMean(name, d.Names()), d)
	}
}
