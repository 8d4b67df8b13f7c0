package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/config"
)

const password = "hunter2"

var (
	_ pflag.Value    = (*config.Secret)(nil)
	_ yaml.Marshaler = config.Secret{}
)

// holder has a secret wherever one may be.
type holder struct {
	User     string                   `json:"user" yaml:"user"`
	Password config.Secret            `json:"password" yaml:"password"`
	Pointer  *config.Secret           `json:"pointer" yaml:"pointer"`
	List     []config.Secret          `json:"list" yaml:"list"`
	Map      map[string]config.Secret `json:"map" yaml:"map"`
	Any      any                      `json:"any" yaml:"any"`
	hidden   config.Secret
	nested   struct{ deeper []config.Secret }
}

func newHolder() holder {
	s := config.NewSecret(password)
	h := holder{User: "root", Password: s, Pointer: &s, List: []config.Secret{s}, Map: map[string]config.Secret{"k": s}, Any: s, hidden: s}
	h.nested.deeper = []config.Secret{s}
	return h
}

// checkRedacted wants n secrets in text, none of them readable in any notation.
func checkRedacted(t *testing.T, what, text string, n int) {
	t.Helper()
	for _, leak := range []string{
		password, fmt.Sprintf("%x", password), fmt.Sprintf("%X", password), fmt.Sprintf("% x", password), fmt.Sprint([]byte(password)), "aHVudGVyMg",
	} {
		if strings.Contains(text, leak) {
			t.Errorf("%s: the secret shows: %s", what, text)
		}
	}
	if got := strings.Count(text, config.Redacted); got < n {
		t.Errorf("%s: %d times %s, want %d: %s", what, got, config.Redacted, n, text)
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	s := config.NewSecret(password)
	h := newHolder()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%10s", "%t", "%c", "%U", "%z"} {
		checkRedacted(t, verb, fmt.Sprintf(verb, s), 1)
		checkRedacted(t, verb+" of a pointer", fmt.Sprintf(verb, &s), 1)
		if verb == "%v" || verb == "%+v" || verb == "%#v" || verb == "%s" {
			checkRedacted(t, verb+" in a struct", fmt.Sprintf(verb, h), 4)
		} else {
			checkRedacted(t, verb+" in a struct", fmt.Sprintf(verb, h), 0)
		}
		checkRedacted(t, verb+" in unexported fields", fmt.Sprintf(verb, struct{ a, b any }{h, &h}), 0)
	}
	checkRedacted(t, "%p", fmt.Sprintf("%p", any(s)), 0)
	checkRedacted(t, "Print", fmt.Sprint("password ", s), 1)
	checkRedacted(t, "Errorf", fmt.Errorf("login with %v", s).Error(), 1)
	if got := fmt.Sprintf("%s %q %v", s, s, s); got != `<redacted> "<redacted>" <redacted>` {
		t.Errorf("got %s", got)
	}
}

func TestSecretIsNotMarshalled(t *testing.T) {
	h := newHolder()
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(data))
	checkRedacted(t, "JSON", text, 5)

	if data, err = yaml.Marshal(h); err != nil {
		t.Fatal(err)
	}
	checkRedacted(t, "YAML", string(data), 5)

	if data, err = h.Password.MarshalText(); err != nil || string(data) != config.Redacted {
		t.Errorf("text: %s, %v", data, err)
	}
}

func TestSecretIsNotLogged(t *testing.T) {
	h := newHolder()
	var out bytes.Buffer
	for name, handler := range map[string]slog.Handler{
		"text": slog.NewTextHandler(&out, nil), "JSON": slog.NewJSONHandler(&out, nil),
	} {
		out.Reset()
		log := slog.New(handler).With("early", h.Password)
		log.Info("login", "password", h.Password, "pointer", h.Pointer, "holder", h, slog.Group("g", "in", h.Password))
		checkRedacted(t, "slog "+name, strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(out.String()), 4)
	}
	if got := h.Password.LogValue().Kind(); got != slog.KindString {
		t.Errorf("LogValue is a %v", got)
	}
}

func TestEmptySecretPrintsEmpty(t *testing.T) {
	for _, s := range []config.Secret{{}, config.NewSecret("")} {
		if got := fmt.Sprintf("[%v][%+v][%#v][%s][%q]", s, s, s, s, s); got != `[][][][][""]` {
			t.Errorf("got %s", got)
		}
		if data, err := json.Marshal(s); err != nil || string(data) != `""` {
			t.Errorf("JSON: %s, %v", data, err)
		}
		if data, err := yaml.Marshal(s); err != nil || string(data) != "\"\"\n" {
			t.Errorf("YAML: %s, %v", data, err)
		}
		if s.Reveal() != "" || !reflect.DeepEqual(s, config.Secret{}) {
			t.Errorf("%#v", s)
		}
	}
}

func TestSecretIsRevealed(t *testing.T) {
	if got := config.NewSecret(password).Reveal(); got != password {
		t.Errorf("got %q", got)
	}
	if !reflect.DeepEqual(config.NewSecret(password), config.NewSecret(password)) ||
		reflect.DeepEqual(config.NewSecret(password), config.NewSecret("other")) {
		t.Error("DeepEqual doesn't compare the strings")
	}
	if reflect.TypeFor[config.Secret]().Comparable() {
		t.Error("== compiles, but compares pointers")
	}
}

func TestSecretFromYAML(t *testing.T) {
	for text, want := range map[string]string{
		"password: hunter2":             "hunter2",
		"password: 'with: colon'":       "with: colon",
		"password: 0123":                "0123",
		"password: 1e3":                 "1e3",
		"password: true":                "true",
		"password: ''":                  "",
		"password: |\n  two\n  more":    "two\nmore",
		"user: &p shared\npassword: *p": "shared",
		"user: x":                       "default",
		"password: null":                "default",
	} {
		h := holder{Password: config.NewSecret("default")}
		if err := yaml.Unmarshal([]byte(text), &h); err != nil || h.Password.Reveal() != want {
			t.Errorf("%s: got %q, %v", text, h.Password.Reveal(), err)
		}
	}
	for text, want := range map[string]string{
		"user: x\npassword: [hunter2]":     "line 2: cannot unmarshal !!seq into a secret; it must be a string",
		"user: x\npassword:\n  k: hunter2": "line 3: cannot unmarshal !!map into a secret; it must be a string",
	} {
		err := yaml.Unmarshal([]byte(text), &holder{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), password) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestSecretFromJSON(t *testing.T) {
	var h holder
	if err := json.Unmarshal([]byte(`{"password":"hunter2"}`), &h); err != nil || h.Password.Reveal() != password {
		t.Errorf("got %q, %v", h.Password.Reveal(), err)
	}
	if err := json.Unmarshal([]byte(`{"password":31337}`), &h); err == nil || strings.Contains(err.Error(), "31337") {
		t.Errorf("got %v", err)
	}
}

func TestSecretAsFlag(t *testing.T) {
	h := holder{Password: config.NewSecret(password)}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.Var(&h.Password, "password", "password of the user")
	fs.Var(new(config.Secret), "token", "token, if any")
	usage := fs.FlagUsages()
	checkRedacted(t, "usage", usage, 1)
	if !strings.Contains(usage, "--password secret") || strings.Contains(usage, "token, if any (default") {
		t.Errorf("usage: %s", usage)
	}
	if err := fs.Parse([]string{"--password=given"}); err != nil || h.Password.Reveal() != "given" {
		t.Errorf("got %q, %v", h.Password.Reveal(), err)
	}
}
