package cli_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The runbook names no flag, command or message that there is not.
func TestRunbookNamesWhatThereIs(t *testing.T) {
	_ = os.Getenv("POLYKV_TREE") // set by make test, so that no result from before a change of other modules' files is taken
	data, err := os.ReadFile("../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	help := run(t, "", "help", "flags").stdout
	commands := []string{"plan", "start", "cutover", "finish", "status", "converge", "abort", "rollback", "force"}
	for _, c := range append([]string{"copy", "verify"}, commands...) {
		args := []string{"migrate", c, "--help"}
		if c == "copy" || c == "verify" {
			args = args[1:]
		}
		help += run(t, "", args...).stdout
	}
	for _, flag := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(page, -1) {
		if !strings.Contains(help, flag) {
			t.Errorf("the runbook names the flag %s, which there is not", flag)
		}
	}
	for _, m := range regexp.MustCompile(`migrate ([a-z]+)`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(strings.Join(commands, " "), m[1]) && m[1] != "to" {
			t.Errorf("the runbook names the command migrate %s, which there is not", m[1])
		}
	}
	var code strings.Builder
	for _, dir := range []string{"../kv/multi", "../kv/multi/migrate", "../kv/multi/internal/side", "."} {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f.Name(), ".go") && !strings.HasSuffix(f.Name(), "_test.go") {
				text, err := os.ReadFile(dir + "/" + f.Name())
				if err != nil {
					t.Fatal(err)
				}
				code.Write(text)
			}
		}
	}
	for _, message := range []string{
		"can't go on here", "the records say that the migration goes from", "not ready for the", "failed before it sealed anything, clients go on as before",
		"failed and was undone, clients go on as before", `nothing is mirrored until "polykv migrate abort" has made the other store the standby again`,
		"it could not be undone either, so writes may be waiting", "no store is primary, writes wait", "takes no writes of clients that know it alone",
		"aborted by another run", "a cutover or roll-back met a finish", "both stores say that they are primary", "bad migration record", "lead to the same store",
		"no command leads to these records", "keys could not be copied", "closed before everything was mirrored", "keys differed that nobody had mirrored",
		"not every client does what is wanted", "what is wanted of this client can't be done",
	} {
		if !strings.Contains(page, message) || !strings.Contains(code.String(), message) && !strings.Contains(code.String(), strings.ReplaceAll(message, `"`, `\"`)) {
			t.Errorf("the message %q: in the runbook: %v", message, strings.Contains(page, message))
		}
	}
}
