package factory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Decode returns the configuration that data, YAML or JSON, says, with the
// defaults for what it doesn't say. It is strict, see the package documentation,
// and the way for programs that read their own configuration with a library
// whose types this package can't meet. See [Drivers.Decode] for other drivers
// than polykv's.
func Decode(data []byte) (*Config, error) { return Builtin().Decode(data) }

// Decode is the package's function of that name for these drivers.
func (d Drivers) Decode(data []byte) (*Config, error) {
	c := d.NewConfig()
	if err := c.Load(bytes.NewReader(data)); err != nil {
		return nil, err
	}
	return c, nil
}

// LoadFile reads the YAML file at path into c: strictly, see the package
// documentation. Fields that it doesn't mention keep their values, and so do
// those that were set by variables and flags. Errors begin with the path; if
// one is returned, c may be half filled.
func (c *Config) LoadFile(path string) error { return c.LoadFileSection(path, "") }

// LoadFileSection is LoadFile of one section of a file that holds other things
// besides, such as a program's own configuration. The section is named by the
// fields that lead to it, as in "storage.kv"; what is outside of it need only be
// YAML. An empty name is the whole file.
func (c *Config) LoadFileSection(path, section string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := c.load(file, section); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Load is LoadFile of a reader: exactly one YAML document, which may be empty.
func (c *Config) Load(r io.Reader) error { return c.load(r, "") }

func (c *Config) load(r io.Reader, section string) error {
	c.init()
	decoder := yaml.NewDecoder(r)
	var node yaml.Node
	err := decoder.Decode(&node)
	switch {
	case errors.Is(err, io.EOF) && section != "":
		return &FieldError{Field: section, Err: errors.New("there is no such section; the document is empty")}
	case errors.Is(err, io.EOF):
		return c.applyGiven()
	case err != nil && strings.HasPrefix(err.Error(), "yaml: unknown anchor"): // which quotes it
		return errors.New(`yaml: a value begins with "*" and names no anchor; if it is text, a password for example, write it in quotes`)
	case err != nil:
		return err
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return errors.New("more than one YAML document; there must be one")
	}
	within, err := find(&node, section)
	if err != nil {
		return err
	}
	return inField(section, 0, c.decodeNode(&document{}, within))
}

// find returns the value of a section, named as in "a.b".
func find(node *yaml.Node, section string) (*yaml.Node, error) {
	if section == "" {
		return node, nil
	}
	path := ""
	for name := range strings.SplitSeq(section, ".") {
		node = resolve(node)
		var names []string
		var found *yaml.Node
		for i := 0; node.Kind == yaml.MappingNode && i < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Value == name && found != nil {
				return nil, &FieldError{Line: key.Line, Field: join(path, name), Err: errors.New("given a second time")}
			}
			if key.Value == name {
				found = node.Content[i+1]
			}
			names = append(names, shownName.FindString(key.Value))
		}
		if found == nil {
			slices.Sort(names)
			return nil, &FieldError{Line: node.Line, Field: join(path, name), Err: fmt.Errorf("there is no such section%s; there is: %s",
				didYouMean(name, names), listed(names))}
		}
		node, path = found, join(path, name)
	}
	return node, nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// UnmarshalYAML reads c from YAML, strictly and under the rules of LoadFile, so
// that a Config can be a field of a program's own configuration. It has the
// form that go.yaml.in/yaml and gopkg.in/yaml know in all their versions. With
// others than go.yaml.in/yaml/v3 mistakes have no line numbers.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	var exact captured
	if err := unmarshal(&exact); err == nil && exact.node != nil {
		return c.decodeNode(&document{}, exact.node)
	}
	var t tree // another library's
	if err := unmarshal(&t); err != nil {
		return err
	}
	return c.decodeNode(&document{untyped: true}, t.node())
}

// captured is what go.yaml.in/yaml/v3 gives to who wants the document itself.
type captured struct{ node *yaml.Node }

func (c *captured) UnmarshalYAML(node *yaml.Node) error {
	c.node = node
	return nil
}

// UnmarshalJSON reads c from JSON, strictly and under the rules of LoadFile.
// sigs.k8s.io/yaml reads YAML through it. JSON has no spelling for numbers, so
// that a password of digits, and whatever else is text, must be in quotes.
func (c *Config) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	node, err := jsonNode(decoder)
	if err != nil {
		return err
	}
	return c.decodeNode(&document{typed: true}, node)
}

// decodeNode fills c.
func (c *Config) decodeNode(d *document, node *yaml.Node) error {
	c.init()
	if err := d.decodeFields(fieldsOf(c.entries()), node, ""); err != nil {
		return err
	}
	return c.applyGiven()
}
