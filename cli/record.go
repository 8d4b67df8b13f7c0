package cli

import (
	"unicode/utf8"

	"github.com/polykv/polykv/kv"
)

// record is a line of JSON about one key.
type record struct {
	Type        string  `json:"type,omitempty"`
	Key         string  `json:"key,omitempty"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
	Version     uint64  `json:"version,omitempty"`
	Error       string  `json:"error,omitempty"`
}

// entryRecord is a key with its value and version.
func entryRecord(e kv.Entry) record {
	return withValue(record{Key: e.Key, Version: uint64(e.Version)}, e.Value)
}

// withValue puts a value into r: as text if it is text.
func withValue(r record, value any) record {
	data, _ := value.([]byte)
	if utf8.Valid(data) {
		text := string(data)
		r.Value = &text
	} else {
		r.ValueBase64 = data
	}
	return r
}
