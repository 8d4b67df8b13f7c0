// Package factory makes a [kv.Client] of a configuration: which backend, how
// it is reached, under which prefix. It is the only package that imports every
// driver; a program that knows its backend imports that driver instead and
// links no other.
//
// A [Config] is filled by code, by command line flags ([Config.RegisterFlags],
// or [Config.RegisterFlagsStd] for the standard library's), by environment
// variables ([Config.LoadEnv]) and by YAML or JSON ([Config.LoadFile],
// [Decode], or as a part of the program's own configuration), in any
// combination and order: defaults yield to the file, the file to variables, and
// variables to flags that were given. [New] makes the client.
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
// A program that wants fewer backends, and fewer flags, takes [Drivers.Only]
// some of them.
//
// # Variables and files in YAML
//
// In every value, ${NAME} stands for an environment variable, which must be set,
// and ${file:/run/secrets/name} for what is in a file, without a line break at
// its end. For a list of text a variable may hold several, separated by commas.
// "$${" is a "${" that is meant as it stands; every other "$" is itself. Files are
// read once; what a driver's own field names, such as a token file, it may read again.
//
// # Other YAML libraries
//
// A Config is read as strictly, and with the same defaults, by go.yaml.in/yaml,
// gopkg.in/yaml, sigs.k8s.io/yaml and goccy/go-yaml, in a program's own
// structure too. Line numbers of mistakes come with go.yaml.in/yaml/v3. Through
// JSON, as sigs.k8s.io/yaml has it, a password of digits must be in quotes. With
// any other library take the section as text and give it to [Decode].
//
// # What is wrong, and where
//
// Reading YAML is strict: an unknown field, a field given twice and a value of
// the wrong kind are errors, and so are they in the sections of added drivers.
// Every mistake is a [FieldError] with the path of the field and, in YAML, its
// line. Printing a configuration, with fmt, as YAML, as JSON or to slog, shows
// secrets as <redacted>.
package factory
