package kit_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver/kit"
)

// secretFile is a file with a secret, whose time of change the test chooses.
type secretFile struct {
	t    *testing.T
	path string
}

func (f secretFile) write(path, text string, at int64) {
	f.t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, time.Unix(at, 0), time.Unix(at, 0))); err != nil {
		f.t.Fatal(err)
	}
}

func (f secretFile) move(from, to string) {
	f.t.Helper()
	if err := os.Rename(from, to); err != nil {
		f.t.Fatal(err)
	}
}

func TestSecretOfAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := secretFile{t, filepath.Join(t.TempDir(), "secret")}
		var log bytes.Buffer
		f.write(f.path, " one\n", 1)
		s := kit.NewSecret(config.NewSecret(""), f.path, "unreadable", slog.New(slog.NewTextHandler(&log, nil)))
		expect := func(when, want string, warnings int) {
			t.Helper()
			if got, told := s.Current(), strings.Count(log.String(), "unreadable"); got != want || told != warnings {
				t.Errorf("%s: %q, told %d times; want %q, %d", when, got, told, want, warnings)
			}
		}
		later := func(when, want string, warnings int) {
			t.Helper()
			time.Sleep(time.Second)
			expect(when, want, warnings)
		}
		f.move(f.path, f.path+".away") // it was read when it was made
		expect("at first", "one", 0)
		f.write(f.path, "two", 2)
		time.Sleep(time.Second - 1)
		expect("within a second", "one", 0)
		time.Sleep(time.Nanosecond)
		expect("after a second", "two", 0)
		later("unchanged", "two", 0)
		f.write(f.path, "three", 2)
		later("of another size", "three", 0)
		f.write(f.path, "THREE", 3)
		later("of another time", "THREE", 0)
		f.write(f.path+"2", "Three", 3)
		f.move(f.path+"2", f.path)
		later("another file", "Three", 0)
		f.write(f.path, "thREE", 3)
		later("what looks like the same", "Three", 0)
		if !s.Replaced("Three") {
			t.Error("a refused secret is not looked at anyhow")
		}
		expect("after that", "thREE", 0)
		if s.Replaced("thREE") || !s.Replaced("other") {
			t.Error("replaced, or not replaced, though it is the other way round")
		}

		for i := range 2 { // it is told each time, once
			f.move(f.path, f.path+".away")
			expect("within a second of its end", "thREE", i)
			later("gone", "thREE", i+1)
			later("gone for longer", "thREE", i+1)
			f.move(f.path+".away", f.path)
			later("back", "thREE", i+1)
		}
		f.write(f.path, " \n", 4)
		later("empty", "thREE", 3)
	})
}

func TestSecretWithoutAFile(t *testing.T) {
	s := kit.NewSecret(config.NewSecret(" a\n"), "", "", nil)
	if got := s.Current(); got != "a" || s.Replaced("b") {
		t.Errorf("%q, or replaced", got)
	}
	kit.NewSecret(config.NewSecret(""), filepath.Join(t.TempDir(), "none"), "", nil).Current() // no logger, no panic
}

func TestUseOfASecret(t *testing.T) {
	f := secretFile{t, filepath.Join(t.TempDir(), "secret")}
	f.write(f.path, "old", 1)
	s := kit.NewSecret(config.NewSecret(""), f.path, "", nil)
	isRefused := func(err error) bool { return errors.Is(err, errRefused) }
	for _, test := range []struct {
		name, written string
		err           map[string]error // by secret
		want          error
		calls         string
	}{
		{"accepted", "old", nil, nil, "old"},
		{"refused", "old", map[string]error{"old": errRefused}, errRefused, "old"},
		{"another failure", "new", map[string]error{"old": os.ErrDeadlineExceeded}, os.ErrDeadlineExceeded, "old"},
		{"replaced", "new", map[string]error{"old": errRefused}, nil, "old new"},
		{"replaced, and refused", "old", map[string]error{"old": errRefused, "new": errRefused}, errRefused, "new old"},
	} {
		f.write(f.path, test.written, 2)
		var calls []string
		got, err := kit.Use(s, isRefused, func(secret string) (string, error) {
			calls = append(calls, secret)
			return "with " + secret, test.err[secret]
		})
		if !errors.Is(err, test.want) || strings.Join(calls, " ") != test.calls || got != "with "+calls[len(calls)-1] {
			t.Errorf("%s: %q, %v after calls with %q; want %v, calls with %s", test.name, got, err, calls, test.want, test.calls)
		}
	}
}

func TestReadSecret(t *testing.T) {
	f := secretFile{t, filepath.Join(t.TempDir(), "secret")}
	if _, err := kit.ReadSecret(f.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for text, want := range map[string]string{
		"": "is empty", " \n": "is empty", "secret\nsecret": "more than one line", "secret\rsecret": "more than one line", "secret\x00": "more than one line",
	} {
		f.write(f.path, text, 1)
		got, err := kit.ReadSecret(f.path)
		if got != "" || err == nil || !strings.HasSuffix(err.Error(), "nothing else") && !strings.HasSuffix(err.Error(), want) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secretsecret") {
			t.Errorf("%q: %q, %v; want %s", text, got, err, want)
		}
	}
	f.write(f.path, "\ta b \r\n", 1)
	if got, err := kit.ReadSecret(f.path); got != "a b" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCheckLogin(t *testing.T) {
	f := secretFile{t, filepath.Join(t.TempDir(), "secret")}
	f.write(f.path, "secret", 1)
	for _, test := range []struct{ user, password, file, want string }{
		{"", "", "", ""},
		{"u", "p", "", ""},
		{"u", "", f.path, ""},
		{"", "p", "", ""},
		{"", "", f.path, ""},
		{"u", "", "", "password: is empty, and so is password_file"},
		{"u", "p", f.path, "password_file: is set, but password is set too"},
		{"u", "", f.path + ".none", "password_file: open "},
	} {
		err := kit.CheckLogin(test.user, config.NewSecret(test.password), test.file)
		if text := errorText(err); test.want == "" && err != nil || !strings.HasPrefix(text, test.want) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
