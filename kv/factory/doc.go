// Package factory makes a [kv.Client] of a configuration: which backend, how
// it is reached, under which prefix. It is the only package that imports every
// driver; a program that knows its backend imports that driver instead and
// links no other.
//
// A [Config] is filled by code, by command line flags ([Config.RegisterFlags])
// and by YAML ([Config.LoadFile], or as a part of the program's own
// configuration), in any combination: defaults yield to the file, and the file
// to flags that were given. [New] makes the client.
//
//	cfg := factory.NewConfig()
//	cfg.RegisterFlags(flags, "kv.")
//	...
//	client, err := factory.New(ctx, cfg, codec.String{}, factory.Deps{Logger: log})
//
// # Drivers of others
//
// [Drivers] is the set of backends to choose from. [Builtin] returns
// polykv's own; [Drivers.Add] adds one that it has never heard of, with a
// configuration section of its own that takes part in everything:
//
//	drivers := factory.Builtin()
//	err := drivers.Add(factory.StoreDriver("bbolt", bbolt.NewConfig, openBolt))
//	cfg := drivers.NewConfig()
//
// # What is wrong, and where
//
// Reading YAML is strict: an unknown field, a field given twice and a value of
// the wrong kind are errors, and so are they in the sections of added drivers.
// Every mistake is a [FieldError] with the path of the field and, in YAML, its
// line. Printing a configuration, with fmt, as YAML, as JSON or to slog, shows
// secrets as <redacted>.
package factory
