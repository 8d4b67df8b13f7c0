package factory

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// LoadEnv fills c from the environment: each flag of RegisterFlags has a
// variable, whose name is prefix and the flag's in capitals with "_" for "."
// and "-". With the prefix "POLYKV_", POLYKV_ETCD_ENDPOINTS is for
// --etcd.endpoints. A list is separated by commas. An empty variable counts as
// not set.
//
// What a variable sets stays in force when YAML is read into c later, and
// yields to flags that were given, before or after.
//
// A variable that begins like a section of c, such as POLYKV_ETCD_ENPOINTS, and
// is no field's, is an error, and so is one that nearly names a field outside
// the sections. Those that Kubernetes sets for a service of such a name
// (POLYKV_ETCD_SERVICE_HOST) are passed over. No error shows a value that may
// be a secret.
func (c *Config) LoadEnv(prefix string) error {
	c.init()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.bind(fs, "")
	byVariable := map[string]*pflag.Flag{}
	fs.VisitAll(func(f *pflag.Flag) { byVariable[prefix+variable(f.Name)] = f })
	environment := os.Environ()
	slices.Sort(environment) // so that the first mistake is always the same one
	c.env = nil
	for _, setting := range environment {
		name, text, _ := strings.Cut(setting, "=")
		f := byVariable[name]
		switch {
		case text == "" || !strings.HasPrefix(name, prefix):
		case f == nil:
			if err := c.checkUnknown(strings.TrimPrefix(name, prefix), prefix, byVariable); err != nil {
				return err
			}
		default:
			if err := f.Value.Set(text); err != nil {
				return &FieldError{Field: strings.ReplaceAll(f.Name, "-", "_"), Err: fmt.Errorf("the environment variable %s %w", name, unquoted(f, err))}
			}
			c.env = append(c.env, givenFlag{name: f.Name, text: text})
		}
	}
	return c.applyGiven()
}

// unquoted is err without the value, which pflag's own types quote: it may be a
// secret that was put into the wrong variable.
func unquoted(f *pflag.Flag, err error) error {
	wants := map[string]string{"bool": aBool, "duration": aDuration, "int": anInt, "uint": anInt, "float": aFloat}
	if want, known := wants[strings.TrimRight(f.Value.Type(), "0123456789")]; known {
		return errors.New("is not " + want)
	}
	return fmt.Errorf("is wrong: %w", err)
}

// variable is the name of the variable of a flag, or of the part of it that
// belongs to a section, without prefix.
func variable(flag string) string {
	return strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(flag))
}

// ofService matches what Kubernetes sets in every container for each service
// of its namespace.
var ofService = regexp.MustCompile(`(^|_)(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// checkUnknown returns an error if the variable of that name, without prefix,
// was probably meant for a field.
func (c *Config) checkUnknown(name, prefix string, byVariable map[string]*pflag.Flag) error {
	if ofService.MatchString(name) {
		return nil
	}
	inSection := false
	for _, e := range c.entries() {
		inSection = inSection || strings.HasPrefix(name, variable(e.name)+"_")
	}
	var known []string
	for full := range byVariable {
		short := strings.TrimPrefix(full, prefix)
		if inSection || !strings.Contains(byVariable[full].Name, ".") {
			known = append(known, short)
		}
	}
	slices.Sort(known)
	near := nearest(name, known)
	switch {
	case near != "":
		return fmt.Errorf("the environment variable %s%s is for no field, did you mean %s%s?", prefix, name, prefix, near)
	case inSection:
		return fmt.Errorf("the environment variable %s%s is for no field", prefix, name)
	}
	return nil
}
