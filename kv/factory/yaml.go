package factory

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The YAML library can refuse unknown fields only from the top of a document
// and only by Go type names, and knows a wrong value's line but not its field.
// Here each field is decoded by itself, by that library, so that every mistake
// has its path, its line and what is allowed, also in sections that the
// configuration holds as interfaces.

// document is where a configuration is read from.
type document struct {
	untyped bool // scalars are text, and what they are is for their fields to say
	typed   bool // scalars are values, and how they were written is lost
}

// fields are the known fields of one mapping.
type fields map[string]reflect.Value

func fieldsOf(entries []entry) fields {
	f := fields{}
	for _, e := range entries {
		f[e.name] = reflect.ValueOf(e.value).Elem()
	}
	return f
}

// structFields finds the fields of v by the rules of the YAML library.
func structFields(v reflect.Value) fields {
	f := fields{}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case strings.Contains(options, "inline") && field.Type.Kind() == reflect.Struct:
			maps.Copy(f, structFields(v.Field(i)))
		case name == "":
			f[strings.ToLower(field.Name)] = v.Field(i)
		default:
			f[name] = v.Field(i)
		}
	}
	return f
}

func (f fields) names() []string { return slices.Sorted(maps.Keys(f)) }

// decodeFields fills the fields from a mapping. Those that it doesn't mention,
// or mentions without a value, stay as they are.
func (d *document) decodeFields(f fields, node *yaml.Node, path string) error {
	node = resolve(node)
	if isNull(node) {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return &FieldError{Line: node.Line, Field: path, Err: fmt.Errorf("want fields, each on a line of its own as in %q", f.names()[0]+": ...")}
	}
	seen := map[string]int{}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if err := d.decodeField(f, key, value, path, seen); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) decodeField(f fields, key, value *yaml.Node, path string, seen map[string]int) error {
	if key.Tag == "!!merge" {
		return &FieldError{Line: key.Line, Field: path, Err: errors.New(`"<<" is not supported; write the fields out`)}
	}
	name := shownName.FindString(key.Value)
	where := join(path, name)
	if line, twice := seen[key.Value]; twice {
		text := "given a second time"
		if line > 0 {
			text += fmt.Sprintf(", after line %d", line)
		}
		return &FieldError{Line: key.Line, Field: where, Err: errors.New(text)}
	}
	seen[key.Value] = key.Line
	field, known := f[key.Value]
	switch {
	case known:
		return d.decodeValue(value, field, join(path, key.Value))
	case strings.HasPrefix(key.Value, name+":"):
		return &FieldError{Line: key.Line, Field: where, Err: errors.New(`there must be a space between a ":" and its value`)}
	}
	return &FieldError{Line: key.Line, Field: where, Err: fmt.Errorf("unknown field%s; known here: %s",
		didYouMean(name, f.names()), strings.Join(f.names(), ", "))}
}

// shownName matches as much of a name as an error may quote: what follows it
// without a space, as in "password:secret", may be a value.
var shownName = regexp.MustCompile(`^[\pL\pN_.-]*`)

// longestPath ends what an alias that contains itself would make of a
// recursive type.
const longestPath = 4096

// decodeValue fills v, which is addressable.
func (d *document) decodeValue(node *yaml.Node, v reflect.Value, path string) error {
	node = resolve(node)
	switch {
	case isNull(node):
		return nil
	case len(path) > longestPath:
		return &FieldError{Line: node.Line, Field: path[:32] + "...", Err: errors.New("nested too deeply")}
	}
	switch own := v.Addr().Interface().(type) {
	case *Config:
		return inField(path, node.Line, own.decodeNode(d, node))
	case yaml.Unmarshaler:
		return inField(path, node.Line, d.decodeOwn(node, own))
	case encoding.TextUnmarshaler:
		return inField(path, node.Line, d.decodeText(node, own))
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.decodeValue(node, v.Elem(), path)
	case reflect.Struct:
		return d.decodeFields(structFields(v), node, path)
	case reflect.Slice:
		return d.decodeSlice(node, v, path)
	case reflect.Map:
		return d.decodeMap(node, v, path)
	default:
		return inField(path, node.Line, d.decodeScalar(node, v))
	}
}

// decodeOwn is for types that decode themselves.
func (d *document) decodeOwn(node *yaml.Node, v yaml.Unmarshaler) error {
	if _, isText := v.(encoding.TextUnmarshaler); isText {
		if err := d.checkText(node); err != nil {
			return err
		}
	}
	expanded, err := expandAll(node, deepest)
	if err != nil {
		return err
	}
	return inOneLine(v.UnmarshalYAML(expanded))
}

// deepest is how deep values may be nested that decode themselves.
const deepest = 100

// checkText refuses a scalar for text whose spelling is lost: 0123 is 83 by now.
func (d *document) checkText(node *yaml.Node) error {
	if d.typed && node.Kind == yaml.ScalarNode && node.Tag != "!!str" {
		return errors.New("want text; write it in quotes")
	}
	return nil
}

// inOneLine takes the YAML library's list of errors for its first, without the
// line number, which FieldError has.
func inOneLine(err error) error {
	var list *yaml.TypeError
	if !errors.As(err, &list) || len(list.Errors) == 0 {
		return err
	}
	text := list.Errors[0]
	if number, rest, found := strings.Cut(text, ": "); found && strings.HasPrefix(number, "line ") {
		text = rest
	}
	return errors.New(text)
}

func (d *document) decodeText(node *yaml.Node, v encoding.TextUnmarshaler) error {
	if node.Kind != yaml.ScalarNode {
		return errors.New("want a single value")
	}
	if err := d.checkText(node); err != nil {
		return err
	}
	text, err := expand(node.Value)
	if err != nil {
		return err
	}
	return v.UnmarshalText([]byte(text))
}

func (d *document) decodeSlice(node *yaml.Node, v reflect.Value, path string) error {
	if node.Kind == yaml.ScalarNode && v.Type().Elem().Kind() == reflect.String && strings.Contains(node.Value, "${") {
		return inField(path, node.Line, decodeList(node, v))
	}
	if node.Kind != yaml.SequenceNode {
		return &FieldError{Line: node.Line, Field: path, Err: errors.New("want a list, such as [a, b]")}
	}
	list := reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		if err := d.decodeValue(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// decodeList fills a list with what a variable holds, separated by commas.
func decodeList(node *yaml.Node, v reflect.Value) error {
	text, err := expand(node.Value)
	if err != nil {
		return err
	}
	list := reflect.MakeSlice(v.Type(), 0, 0)
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = reflect.Append(list, reflect.ValueOf(item).Convert(v.Type().Elem()))
		}
	}
	v.Set(list)
	return nil
}

func (d *document) decodeMap(node *yaml.Node, v reflect.Value, path string) error {
	if node.Kind != yaml.MappingNode || v.Type().Key().Kind() != reflect.String {
		return &FieldError{Line: node.Line, Field: path, Err: errors.New("want names with values, such as {a: b}")}
	}
	result := reflect.MakeMap(v.Type())
	for i := 0; i < len(node.Content); i += 2 {
		key, item := node.Content[i], reflect.New(v.Type().Elem()).Elem()
		if err := d.decodeValue(node.Content[i+1], item, join(path, shownName.FindString(key.Value))); err != nil {
			return err
		}
		result.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), item)
	}
	v.Set(result)
	return nil
}

// decodeScalar leaves a value as it is and says what is wanted if node is none.
// It quotes only what can't be a secret.
func (d *document) decodeScalar(node *yaml.Node, v reflect.Value) error {
	if v.Kind() == reflect.String && node.Kind == yaml.ScalarNode {
		if err := d.checkText(node); err != nil {
			return err
		}
	}
	given := node.Value // what an error may quote, unlike what a variable holds
	text, err := expand(given)
	if err != nil {
		return err
	}
	if d.untyped || text != node.Value {
		if v.Kind() == reflect.String && node.Kind == yaml.ScalarNode {
			v.SetString(text) // whatever else it may look like
			return nil
		}
		node = &yaml.Node{Kind: node.Kind, Value: text, Content: node.Content}
	}
	if node.Kind == yaml.ScalarNode && node.ShortTag() != "!!null" && !cutShort(node, v) && node.Decode(v.Addr().Interface()) == nil {
		return nil
	}
	var want string
	switch kind := v.Kind(); {
	case v.Type() == reflect.TypeFor[time.Duration]():
		want = aDuration
	case kind == reflect.Bool:
		want = aBool
	case v.CanInt() || v.CanUint():
		want = anInt
	case v.CanFloat():
		want = aFloat
	default:
		return errors.New("want a single value of text")
	}
	if node.Kind != yaml.ScalarNode {
		return errors.New("want " + want)
	}
	return fmt.Errorf("%q is not %s", given, want)
}

// cutShort reports whether the YAML library would take 1.5 for the whole number 1.
func cutShort(node *yaml.Node, v reflect.Value) bool {
	if !v.CanInt() && !v.CanUint() || node.ShortTag() != "!!float" {
		return false
	}
	var f float64
	return node.Decode(&f) != nil || f != math.Trunc(f)
}

// What is wanted where a value is none.
const (
	aDuration = "a duration; write it like 500ms, 10s or 1m30s"
	aBool     = "true or false"
	anInt     = "a whole number in range"
	aFloat    = "a number"
)

// resolve follows aliases and enters documents.
func resolve(node *yaml.Node) *yaml.Node {
	for {
		switch {
		case node.Kind == yaml.AliasNode:
			node = node.Alias
		case node.Kind == yaml.DocumentNode && len(node.Content) == 1:
			node = node.Content[0]
		default:
			return node
		}
	}
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }
