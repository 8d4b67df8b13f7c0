package config

import (
	"fmt"
	"io"
	"log/slog"

	"go.yaml.in/yaml/v3"
)

// Redacted is what a [Secret] prints as, unless it is empty.
const Redacted = "<redacted>"

// Secret is a string, such as a password, that doesn't show when it or what
// contains it is printed, logged or marshalled: every verb of fmt, JSON, YAML,
// log/slog and encoding.TextMarshaler give "<redacted>". An empty secret gives
// the empty string, so that one can see that it isn't set. [Secret.Reveal]
// returns the string itself.
//
// It is read from YAML, from JSON and, as a pflag.Value, from a flag. A
// configuration that was printed can therefore be read back, but with
// "<redacted>" for its secrets.
//
// The zero value is the empty secret. Secrets can't be compared with ==, which
// would compare something else than the strings. Reading a Secret is safe for
// concurrent use, setting one is not.
type Secret struct {
	_ [0]func() // not comparable

	// Behind a pointer, so that not even fmt prints it when it comes across a
	// Secret in an unexported field, where it may not call methods.
	value *string
}

// NewSecret returns a secret whose Reveal returns value.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// Reveal returns the secret string.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String returns "<redacted>", or "" for an empty secret.
func (s Secret) String() string {
	if s.Reveal() == "" {
		return ""
	}
	return Redacted
}

// Format implements fmt.Formatter: String for every verb, quoted for %q.
func (s Secret) Format(f fmt.State, verb rune) {
	text := s.String()
	if verb == 'q' {
		text = `"` + text + `"`
	}
	_, _ = io.WriteString(f, text) // fmt has nowhere to report an error to
}

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, and through it JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It never fails.
func (s *Secret) UnmarshalText(text []byte) error { return s.Set(string(text)) }

// MarshalYAML implements yaml.Marshaler.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// UnmarshalYAML implements yaml.Unmarshaler. It accepts any scalar, so that a
// password of digits needs no quotes, and takes it as it is written. YAML's
// null leaves the secret as it is.
func (s *Secret) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		// Written here, since the errors of package yaml quote what they found.
		return &yaml.TypeError{Errors: []string{
			fmt.Sprintf("line %d: cannot unmarshal %s into a secret; it must be a string", node.Line, node.ShortTag()),
		}}
	}
	return s.Set(node.Value)
}

// Set implements pflag.Value. It never fails: pflag prints what it couldn't set.
func (s *Secret) Set(value string) error {
	*s = NewSecret(value)
	return nil
}

// Type implements pflag.Value.
func (s Secret) Type() string { return "secret" }
