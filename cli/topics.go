package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// flagsTopic is "polykv help flags".
func (a *app) flagsTopic() *cobra.Command {
	topic := &cobra.Command{Use: "flags", Short: "The flags of the client and of every backend"}
	topic.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		w := cmd.OutOrStdout()
		fmt.Fprint(w, "Every command takes these flags. Only those of the chosen backend have an effect.\n")
		for _, section := range append([]string{"client"}, a.drivers.Names()...) {
			fs := pflag.NewFlagSet("", pflag.ContinueOnError)
			a.configFlags.VisitAll(func(f *pflag.Flag) {
				if strings.HasPrefix(f.Name, section+".") {
					fs.AddFlag(f)
				}
			})
			if fs.HasFlags() {
				fmt.Fprintf(w, "\n%s\n%s", section, fs.FlagUsages())
			}
		}
		a.printMultiFlags(w)
	})
	return topic
}

// printMultiFlags prints the flags of two stores, of which each has those of
// all backends besides.
func (a *app) printMultiFlags(w io.Writer) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	a.configFlags.VisitAll(func(f *pflag.Flag) {
		name, found := strings.CutPrefix(f.Name, "multi.")
		if found && !strings.Contains(name, ".") {
			own.AddFlag(f)
		}
	})
	if own.HasFlags() {
		fmt.Fprintf(w, "\nmulti (two stores: --multi.primary.* and --multi.secondary.* are the flags above, once for each, --multi.primary.backend and so on)\n%s", own.FlagUsages())
	}
}

// configTopic is "polykv help config".
func (a *app) configTopic() *cobra.Command {
	topic := &cobra.Command{Use: "config", Short: "The configuration file"}
	topic.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		w := cmd.OutOrStdout()
		fmt.Fprint(w, `The file named by --config is YAML. Flags that are given override it. A field that
is not known is an error. These are all fields with their defaults; the section
of a backend has an effect only if "backend" chooses it.

`)
		text, err := yaml.Marshal(a.drivers.NewConfig())
		if err != nil {
			fmt.Fprintf(w, "(%v)\n", err)
			return
		}
		fmt.Fprintf(w, "%s", text)
	})
	return topic
}
