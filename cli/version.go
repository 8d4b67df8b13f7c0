package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the versions of polykv, Go and the backends' libraries",
		Example: `  polykv version`,
		Args:    arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.stdout, a.versionText())
			return err
		},
	}
}

// version is that of the program's main module, with the revision if it was
// built in a repository.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	if text == "" {
		text = "(devel)"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && !strings.Contains(text, setting.Value[:min(12, len(setting.Value))]) {
			text += " " + setting.Value
		}
	}
	return text
}

func (a *app) versionText() string {
	var text strings.Builder
	fmt.Fprintf(&text, "polykv %s\n%s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	libraries := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			libraries[module.Path] = module.Version
			if module.Replace != nil {
				libraries[module.Path] = module.Replace.Version
			}
		}
	}
	for _, path := range a.drivers.Libraries() {
		if version, linked := libraries[path]; linked {
			fmt.Fprintf(&text, "%s %s\n", path, version)
		}
	}
	fmt.Fprintf(&text, "backends: %s\n", a.drivers)
	return text.String()
}
