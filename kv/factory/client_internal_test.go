package factory

import (
	"reflect"
	"testing"
)

// Every field of the configuration reaches the client's option of that name.
func TestEveryClientFieldIsAnOption(t *testing.T) {
	var c ClientConfig
	fields := reflect.ValueOf(&c).Elem()
	for i := range fields.NumField() {
		fields.Field(i).SetInt(int64(i + 1))
	}
	options := reflect.ValueOf(c.options())
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		if got := options.FieldByName(name); !got.IsValid() || got.Int() != int64(i+1) {
			t.Errorf("%s does not reach the client", name)
		}
	}
}
