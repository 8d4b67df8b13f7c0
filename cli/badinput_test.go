package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/factory"
)

// TestBadInput: one clear line each, exit code 2, nothing on stdout, and never
// the secret.
func TestBadInput(t *testing.T) {
	const secret = "hunter2"
	missing := filepath.Join(t.TempDir(), "missing.pem")
	file := func(text string) string { return "--config=" + writeFile(t, "polykv.yaml", text) }
	inmemory, etcd := "--backend=inmemory", "--backend=etcd"
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown command", []string{"gte", "k"}, `unknown command "gte", did you mean "get"?`},
		{"unknown flag", []string{"get", "k", "--etcd.endpoint=x"}, `unknown flag: --etcd.endpoint; did you mean --etcd.endpoints?`},
		{"misspelt secret", []string{"get", "k", "--etcd.pasword=" + secret}, `unknown flag: --etcd.pasword; did you mean --etcd.password?`},
		{"secret behind a colon", []string{"get", "k", "--etcd.password:" + secret}, `unknown flag: --etcd.password with a colon behind its name; write --etcd.password=VALUE`},
		{"secret with one dash and a colon", []string{"get", "k", "-etcd.password:" + secret}, `unknown flag -etcd.password; names of more than one letter take two dashes`},
		{"secret with one dash", []string{"get", "k", "-etcd.password=" + secret}, `unknown flag -etcd.password; names of more than one letter take two dashes`},
		{"unknown letter", []string{"get", "k", "-q"}, `unknown shorthand flag: 'q' in -q`},
		{"processes on inmemory", []string{"demo", "--processes"}, `--processes: the backend inmemory can't be shared between processes`},
		{"processes to inmemory", []string{"demo", "--processes", "--from=etcd", "--to=inmemory"}, `--processes: the backend inmemory can't be shared`},
		{"no key", []string{"get"}, `get needs a key; see "polykv get --help"`},
		{"two keys", []string{"delete", "a", "b"}, `delete takes a key, not 2 arguments`},
		{"argument of version", []string{"version", "x"}, `version takes no arguments`},
		{"no value", []string{"put", "k", inmemory}, `put needs a value: an argument, --file, or "-" for stdin`},
		{"two values", []string{"put", "k", "v", "--file=x", inmemory}, `put takes a value or --file, not both`},
		{"create without a value", []string{"create", "k", inmemory}, `create needs a value: an argument, --file, or "-" for stdin`},
		{"no version", []string{"put", "k", "v", inmemory, "--if-version=new"}, `invalid argument "new" for "--if-version" flag: it must be a whole number, as get --output json shows it`},
		{"delete of an absent version", []string{"delete", "k", inmemory, "--if-version=0"}, `--if-version 0 is an absent key`},
		{"unknown output", []string{"list", inmemory, "--output=xml"}, `invalid argument "xml" for "-o, --output" flag: it must be text or json`},
		{"missing value file", []string{"put", "k", "--file", missing, inmemory}, `--file: open ` + missing + `: no such file`},
		{"nothing to watch", []string{"watch", inmemory}, `watch needs a key, or --by-prefix`},
		{"negative count", []string{"watch", "k", "--count=-1", inmemory}, `--count -1: it must not be negative`},
		{"no backend", []string{"get", "k"}, `no backend chosen: give --backend, or --config with a file that says "backend"; choose one of: consul, etcd, inmemory, memberlist`},
		{"unknown backend", []string{"get", "k", "--backend=etdc"}, `backend: unknown backend "etdc", did you mean "etcd"?; choose one of: consul, etcd, inmemory, memberlist`},
		{"unknown backend in the demo", []string{"demo", "--from=etdc"}, `backend: unknown backend "etdc"`},
		{"wrong duration", []string{"get", "k", "--etcd.dial-timeout=soon"}, `invalid argument "soon" for "--etcd.dial-timeout" flag`},
		{"no timeout", []string{"get", "k", inmemory, "--timeout=0s"}, `--timeout 0s: it must be more than 0`},
		{"negative duration", []string{"get", "k", inmemory, "--client.retry-timeout=-1s"}, `client.retry_timeout: -1s must not be negative`},
		{"wrong prefix", []string{"get", "k", inmemory, "--prefix=a"}, `prefix: invalid key: the prefix "a" must be empty or end in "/"`},
		{"missing configuration", []string{"get", "k", "--config=" + missing}, `--config: open ` + missing + `: no such file`},
		{"unknown field", []string{"get", "k", file("backend: etcd\netcd:\n  pasword: " + secret)}, `polykv.yaml: line 3: etcd.pasword: unknown field, did you mean "password"?`},
		{"secret behind its name", []string{"get", "k", file("backend: etcd\netcd: {username: app, password:" + secret + "}")}, `line 2: etcd.password: there must be a space between a ":" and its value`},
		{"secret behind an equals sign", []string{"get", "k", file("backend: etcd\netcd: {password=" + secret + "}")}, `line 2: etcd.password: unknown field, did you mean "password"?`},
		{"secret that looks like an alias", []string{"get", "k", file("backend: etcd\netcd: {password: *" + secret + "}")}, `a value begins with "*"`},
		{"wrong duration in YAML", []string{"get", "k", file("backend: etcd\netcd: {dial_timeout: 5 parsecs}")}, `polykv.yaml: line 2: etcd.dial_timeout: "5 parsecs" is not a duration`},
		{"list for a secret", []string{"get", "k", file("etcd:\n  password: [" + secret + "]")}, `line 2: etcd.password: cannot unmarshal !!seq into a secret`},
		{"no YAML", []string{"get", "k", file("a: b: c")}, `polykv.yaml: yaml: `},
		{"password without user", []string{"get", "k", etcd, "--etcd.password=" + secret}, `etcd.username: is empty, but password is set`},
		{"missing authority", []string{"get", "k", etcd, "--etcd.tls.enabled", "--etcd.tls.ca-file=" + missing}, `etcd.tls.ca_file: open ` + missing + `: no such file`},
		{"missing certificate", []string{"get", "k", etcd, "--etcd.tls.enabled", "--etcd.tls.cert-file=" + missing, "--etcd.tls.key-file=" + missing}, `etcd.tls.cert_file: open ` + missing + `: no such file`},
		{"certificate that is none", []string{"get", "k", etcd, "--etcd.tls.enabled", "--etcd.tls.ca-file=" + writeFile(t, "ca.pem", secret)}, `etcd.tls.ca_file: `},
		{"invalid key", []string{"put", "a//b", "v", inmemory}, `invalid key: "a//b" has an empty, "." or ".." segment`},
		{"key with a slash first", []string{"put", "/a", "v", inmemory}, "segment\n"},
		{"key of etcd", []string{"put", "/a", "v", "--backend=etcd"}, `as in --etcd.root /app/`},
		{"reserved key", []string{"put", ".polykv/record", "v", inmemory}, `which is polykv's own`},
		{"empty key", []string{"delete", "", inmemory}, `invalid key: the key is empty`},
		{"invalid watched key", []string{"watch", "/", inmemory}, `invalid key`},
		{"long key", []string{"get", strings.Repeat("k", 513), inmemory}, `invalid key: the key is 513 bytes long, at most 512 are allowed`},
		{"long key with its prefix", []string{"get", strings.Repeat("k", 510), inmemory, "--prefix=app/"}, `514 bytes`},
		{"another demo than chosen", []string{"demo", "--from=etcd", inmemory}, `--from is "etcd" and the backend is "inmemory"`},
		{"demo that moves nowhere", []string{"demo", "--to=nowhere"}, `--to: backend: unknown backend "nowhere"`},
		{"demo without workers", []string{"demo", "--workers=0"}, `--workers must be more than 0`},
		{"demo without time", []string{"demo", "--duration=-1s"}, `--duration must be more than 0`},
		{"no server to start", []string{"demo", "--start-servers"}, `--start-servers: there is no server of "inmemory" to start`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, "", c.args...)
			r.stderr = strings.TrimPrefix(r.stderr, "polykv: note: the backend inmemory begins empty and ends with this command; for keys that stay, choose another\n")
			r.want(t, 2, "", c.want)
			oneLineWithout(t, r, secret)
		})
	}
}

func oneLineWithout(t *testing.T, r result, secret string) {
	t.Helper()
	if !strings.HasPrefix(r.stderr, "polykv: ") || strings.Count(r.stderr, "\n") != 1 || !strings.HasSuffix(r.stderr, "\n") ||
		strings.Contains(r.stderr, "polykv: polykv") {
		t.Errorf("stderr is not one line that begins with the program's name: %q", r.stderr)
	}
	if strings.Contains(r.stderr+r.stdout, secret) {
		t.Errorf("the secret shows: %q", r.stderr)
	}
}

func TestTooLargeValues(t *testing.T) {
	flags, client := inMemory(t)
	file := writeFile(t, "big", "")
	if err := os.Truncate(file, 1<<30); err != nil { // a sparse one
		t.Fatal(err)
	}
	run(t, strings.Repeat("x", 512<<10+1), append(flags, "put", "k", "-")...).
		want(t, 2, "", "polykv: too large: the value has more than 524288 bytes, the most that this backend takes\n")
	run(t, "", append(flags, "put", "k", "--file", file)...).want(t, 2, "", "too large")
	run(t, "", append(flags, "--client.max-value-size=3", "put", "k", "four")...).want(t, 2, "", "too large: the encoded value is 4 bytes, at most 3")
	if keys, err := client.List(t.Context(), ""); err != nil || len(keys) > 0 {
		t.Errorf("written: %q, %v", keys, err)
	}
	run(t, strings.Repeat("x", 512<<10), append(flags, "put", "k", "-")...).want(t, 0, "", "note")
}

// full is a file of a disk that has no room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestLostAnswers: what can't be printed was not done, whatever prints it.
func TestLostAnswers(t *testing.T) {
	flags := strings.Join(newTwoStores(t).flags, " ")
	for _, command := range []string{
		"help", "help config", "help flags", "get --help", "version", "--version", "completion bash",
		"migrate status " + flags, "migrate plan " + flags,
	} {
		var stderr output
		code := cli.Run(t.Context(), factory.Builtin(), strings.Fields(command), strings.NewReader(""), full{}, &stderr)
		if code != 3 || !strings.Contains(stderr.String(), syscall.ENOSPC.Error()) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s ended with %d and %q", command, code, stderr.String())
		}
	}
}
