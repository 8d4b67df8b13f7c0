package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const defaultTimeout = 30 * time.Second

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "polykv",
		Short: "One key-value interface over several stores",
		Long: `polykv reads, writes and watches keys in the store that a configuration chooses,
and shows by a demonstration that the store keeps polykv's promises.`,
		Example: `  polykv demo
  polykv --backend etcd --etcd.endpoints 127.0.0.1:2379 put config/color green
  polykv --config polykv.yaml get config/color`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			cmd.SuggestionsMinimumDistance = 2
			hint := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = fmt.Sprintf(", did you mean %q?", near[0])
			}
			return usagef(`unknown command %q%s; see "polykv --help"`, args[0], hint)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	a.addFlags(root.PersistentFlags())
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(printUsage)
	root.SetVersionTemplate(a.versionText())
	root.AddCommand(a.getCommand(), a.putCommand(), a.createCommand(), a.deleteCommand(), a.listCommand(), a.watchCommand(),
		a.copyCommand(), a.verifyCommand(), a.migrateCommand(), a.lockCommand(), a.electCommand(), a.membersCommand(),
		a.demoCommand(), a.demoClientCommand(), a.gossipCommand(), a.versionCommand(), a.flagsTopic(), a.configTopic())
	for _, cmd := range root.Commands() { // no argument is a file's name
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	_ = root.RegisterFlagCompletionFunc("backend", a.completeBackend) // fails only if there is no such flag
	return root
}

func (a *app) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&a.configFile, "config", "", `YAML `+"`file`"+` to read; flags override it; see "polykv help config"`)
	fs.StringVar(&a.configSection, "config-section", "", `where in the file of --config polykv's configuration is, such as "storage.kv", if that is an application's own`)
	fs.DurationVar(&a.timeout, "timeout", defaultTimeout, "limit for a command, all retries included; not for demo, watch and what waits for its turn or runs a command, nor for what works on two stores")
	fs.CountVarP(&a.verbose, "verbose", "v", "log more to stderr; -vv even more")
	a.ownFlags = fs
	a.configFlags = pflag.NewFlagSet("", pflag.ContinueOnError)
	a.config.RegisterFlags(a.configFlags, "")
	fs.AddFlagSet(a.configFlags)
}

func (a *app) completeBackend(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.drivers.Names(), cobra.ShellCompDirectiveNoFileComp
}

// isCommon tells the flags that every command shows from those of a backend
// or the client, of which there are many.
func isCommon(f *pflag.Flag) bool { return !strings.Contains(f.Name, ".") }

// printUsage is what --help shows below a command's description.
func printUsage(cmd *cobra.Command) error {
	w := cmd.OutOrStderr()
	line := cmd.UseLine()
	if !cmd.HasParent() {
		line = "polykv COMMAND [flags]"
	}
	fmt.Fprintf(w, "Usage:\n  %s\n", line)
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	printCommands(cmd)
	own, common := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	backend := false
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch {
		case !isCommon(f):
			backend = true
		case cmd.HasParent() && cmd.InheritedFlags().Lookup(f.Name) != nil:
			common.AddFlag(f)
		default:
			own.AddFlag(f)
		}
	})
	if own.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", own.FlagUsages())
	}
	if common.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags of every command:\n%s", common.FlagUsages())
	}
	if backend {
		fmt.Fprint(w, "\nThe flags of the backends: \"polykv help flags\". The configuration file: \"polykv help config\".\n"+
			"Every flag above and there has an environment variable: POLYKV_ETCD_PASSWORD is --etcd.password.\n")
	}
	return nil
}

func printCommands(cmd *cobra.Command) {
	w := cmd.OutOrStderr()
	if cmd.HasAvailableSubCommands() {
		fmt.Fprint(w, "\nCommands:\n")
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(w, "  %-12s%s\n", sub.Name(), sub.Short)
		}
	}
}
