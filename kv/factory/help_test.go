package factory_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/factory"
)

var (
	bounds = regexp.MustCompile(`\d|more than 0|at least|at most`)
	unit   = regexp.MustCompile("`[a-z]+`")

	// elsewhere are words that send the reader to another text.
	elsewhere = regexp.MustCompile(`(?i)\b(see|above|below|likewise|ditto|besides|do so|the same for|such (keys|files|values)|one of (them|these)|wait for them)\b`)
)

// TestHelp wants the help of each flag to say all that its field means: a reader
// may see nothing but this line.
func TestHelp(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	factory.NewConfig().RegisterFlags(fs, "")
	checked := 0
	fs.VisitAll(func(f *pflag.Flag) {
		checked++
		for _, wrong := range wrongHelp(f) {
			t.Errorf("--%s: %s: %q", f.Name, wrong, f.Usage)
		}
	})
	if checked < 100 {
		t.Errorf("there are %d flags", checked)
	}
}

func wrongHelp(f *pflag.Flag) (wrong []string) {
	want := func(ok bool, what string) {
		if !ok {
			wrong = append(wrong, what)
		}
	}
	usage := f.Usage
	first, _, _ := strings.Cut(usage, " ")
	proper := strings.ContainsFunc(first[min(1, len(first)):], unicode.IsUpper) || first == "Consul"
	want(len(usage) > 20, "says next to nothing")
	want(usage != "" && (unicode.IsLower(rune(usage[0])) || proper), "doesn't begin with a small letter")
	want(!strings.HasSuffix(usage, ".") && !strings.Contains(usage, ". "), "is a sentence")
	want(!elsewhere.MatchString(usage), "sends the reader elsewhere")
	switch f.Value.Type() {
	case "duration":
		want(bounds.MatchString(usage), "doesn't say which durations are allowed")
	case "int":
		want(bounds.MatchString(usage), "doesn't say which numbers are allowed")
		want(unit.MatchString(usage), "doesn't say of what it is the number, between backquotes")
	case "string", "stringSlice", "secret":
		if f.DefValue == "" || f.DefValue == "[]" {
			want(strings.Contains(usage, "empty"), "doesn't say what empty means")
		}
	}
	return wrong
}

// TestWrongHelp sees that TestHelp can fail.
func TestWrongHelp(t *testing.T) {
	for _, test := range []struct {
		flag  func(fs *pflag.FlagSet, usage string)
		usage string
		wrong string
	}{
		{durationFlag, "how long closing waits for what is left; more than 0", ""},
		{durationFlag, "how long closing waits for what is left", "durations"},
		{intFlag, "most `keys` in one page; more than 0", ""},
		{intFlag, "most keys in one page; more than 0", "backquotes"},
		{intFlag, "most `keys` in one page", "numbers"},
		{stringFlag, "namespace of all the keys; empty: the token's", ""},
		{stringFlag, "namespace of all the keys", "empty"},
		{stringFlag, "namespace, see above; empty: the token's", "elsewhere"},
		{stringFlag, "namespace of the keys; empty: the token's.", "sentence"},
		{stringFlag, "Namespace of the keys; empty: the token's", "small letter"},
		{stringFlag, "ACL token of the program; empty: none", ""},
		{stringFlag, "name; empty: none", "nothing"},
	} {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		test.flag(fs, test.usage)
		wrong := strings.Join(wrongHelp(fs.Lookup("flag")), "; ")
		if !strings.Contains(wrong, test.wrong) || (wrong == "") != (test.wrong == "") {
			t.Errorf("%q is wrong in %q, want %q", test.usage, wrong, test.wrong)
		}
	}
}

func durationFlag(fs *pflag.FlagSet, usage string) { fs.Duration("flag", 0, usage) }
func intFlag(fs *pflag.FlagSet, usage string)      { fs.Int("flag", 0, usage) }
func stringFlag(fs *pflag.FlagSet, usage string)   { fs.String("flag", "", usage) }
