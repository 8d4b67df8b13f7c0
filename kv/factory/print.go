package factory

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// MarshalYAML implements the yaml.Marshaler of every library: every field of
// every driver, secrets as <redacted>.
func (c Config) MarshalYAML() (any, error) {
	// A struct, since every library knows structs and keeps the order of their fields.
	var types []reflect.StructField
	entries := c.entries()
	for i, e := range entries {
		types = append(types, reflect.StructField{
			Name: fmt.Sprintf("F%d", i), Type: reflect.TypeOf(e.value), Tag: reflect.StructTag(fmt.Sprintf("yaml:%q", e.name)),
		})
	}
	all := reflect.New(reflect.StructOf(types)).Elem()
	for i, e := range entries {
		all.Field(i).Set(reflect.ValueOf(e.value))
	}
	return all.Interface(), nil
}

// MarshalJSON implements json.Marshaler, with the names, the values and the
// redaction of MarshalYAML.
func (c Config) MarshalJSON() ([]byte, error) {
	tree, err := c.tree()
	if err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

// String returns the JSON of c in one line, secrets as <redacted>.
func (c Config) String() string {
	text, err := c.MarshalJSON()
	if err != nil {
		return fmt.Sprintf("<factory.Config: %v>", err)
	}
	return string(text)
}

// Format implements fmt.Formatter, so that no verb shows a secret.
func (c Config) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, c.String()) // fmt has nowhere to report an error to
}

// LogValue implements slog.LogValuer with the names and the redaction of
// MarshalYAML.
func (c Config) LogValue() slog.Value {
	tree, err := c.tree()
	if err != nil {
		return slog.StringValue(c.String())
	}
	return slog.AnyValue(tree)
}

// tree returns c as plain values.
func (c Config) tree() (map[string]any, error) {
	text, err := yaml.Marshal(c)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	sayable(tree)
	return tree, nil
}

// sayable replaces the numbers that JSON has no words for by their names.
func sayable(tree any) any {
	switch t := tree.(type) {
	case map[string]any:
		for key, value := range t {
			t[key] = sayable(value)
		}
	case []any:
		for i, value := range t {
			t[i] = sayable(value)
		}
	case float64:
		if math.IsInf(t, 0) || math.IsNaN(t) {
			return fmt.Sprint(t)
		}
	}
	return tree
}
