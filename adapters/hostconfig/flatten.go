package hostconfig

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Names lists the fields of a host's configuration, by their names in YAML, for
// tests that Read knows them all.
func Names(cfg any) []string {
	return slices.Collect(maps.Keys(flatten("", cfg)))
}

// flatten finds the fields of a configuration by their names in YAML, those of
// sections with the sections' names before them, and prefix before all.
func flatten(prefix string, cfg any) map[string]reflect.Value {
	found := map[string]reflect.Value{}
	if v := reflect.Indirect(reflect.ValueOf(cfg)); v.Kind() == reflect.Struct {
		collect(found, prefix, v)
	}
	return found
}

func collect(found map[string]reflect.Value, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		tag, tagged := v.Type().Field(i).Tag.Lookup("yaml")
		name, options, _ := strings.Cut(tag, ",")
		if !tagged || name == "-" {
			continue
		}
		field := v.Field(i)
		section := field.Kind() == reflect.Struct && !isValue(field)
		switch {
		case section && options == "inline":
			collect(found, prefix, field)
		case section:
			collect(found, prefix+name+".", field)
		default:
			found[prefix+name] = field
		}
	}
}

// isValue reports whether a struct is one value, as a host's secret is.
func isValue(v reflect.Value) bool {
	_, ok := reflect.New(v.Type()).Interface().(interface{ Set(text string) error })
	return ok
}

// same compares two fields.
func same(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// The values of fields, whatever the host's own type is. A field of another kind
// than a row expects is a fault of the row, which the adapters' tests find.

func text(v reflect.Value) string {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	return v.String()
}

func number(v reflect.Value) int { return int(v.Int()) }

func duration(v reflect.Value) time.Duration { return time.Duration(v.Int()) }

func list(v reflect.Value) []string {
	all := make([]string, v.Len())
	for i := range all {
		all[i] = v.Index(i).String()
	}
	return all
}

// show prints a value.
func show(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		return fmt.Sprintf("%q", list(v))
	}
	if v.Kind() == reflect.String {
		return fmt.Sprintf("%q", v.String())
	}
	return fmt.Sprint(v.Interface())
}
