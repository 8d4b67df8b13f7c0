package factory

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// tree is YAML as any library gives it to a method UnmarshalYAML(func(any)
// error): names, lists, and scalars as they are written. (As an any, the
// password 0123 would be the number 83.)
type tree struct {
	fields map[string]*tree
	list   []*tree
	text   *string
}

// UnmarshalYAML implements the Unmarshaler that all libraries have in common.
func (t *tree) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	if unmarshal(&text) == nil {
		t.text = &text
		var spelt spelling
		if unmarshal(&spelt) == nil && spelt.text != nil {
			t.text = spelt.text
		}
		return nil
	}
	if unmarshal(&t.list) == nil {
		return nil
	}
	t.list = nil
	return unmarshal(&t.fields) // its error is about what is wrong inside, a name given twice for example
}

// spelling is a scalar of goccy/go-yaml as it is written, where a string would
// be the number that it makes of it. Other libraries give nothing to this type.
type spelling struct{ text *string }

// UnmarshalYAML implements that library's BytesUnmarshaler.
func (s *spelling) UnmarshalYAML(written []byte) error {
	var node yaml.Node
	if yaml.Unmarshal(written, &node) == nil { // not so for an alias, which is text already
		if scalar := resolve(&node); scalar.Kind == yaml.ScalarNode {
			s.text = &scalar.Value
		}
	}
	return nil
}

// node returns t as a node; nil is YAML's null.
func (t *tree) node() *yaml.Node {
	switch {
	case t != nil && t.text != nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: *t.text}
	case t != nil && t.list != nil:
		node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, item := range t.list {
			node.Content = append(node.Content, item.node())
		}
		return node
	case t != nil && t.fields != nil:
		node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, name := range slices.Sorted(maps.Keys(t.fields)) {
			node.Content = append(node.Content, nameNode(name), t.fields[name].node())
		}
		return node
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
}

func nameNode(name string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}
}

// jsonNode reads a value, names that are given twice included, so that they
// can be refused.
func jsonNode(decoder *json.Decoder) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	switch t := token.(type) {
	case string:
		node.Tag, node.Value, node.Style = "!!str", t, yaml.DoubleQuotedStyle
	case bool:
		node.Tag, node.Value = "!!bool", fmt.Sprint(t)
	case json.Number:
		node.Tag, node.Value = "", t.String()
	case json.Delim:
		node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			node.Kind, node.Tag = yaml.MappingNode, "!!map"
		}
		for decoder.More() {
			item, err := jsonNode(decoder) // a name is a value like others
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, item)
		}
		_, err = decoder.Token() // its end
	}
	return node, err
}
