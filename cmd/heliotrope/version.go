package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"heliotrope/analysis/dataset"
	"heliotrope/deploy/temporal"
	"heliotrope/internal/campaign"
	"heliotrope/internal/inventory"
)

// commit is the commit that the program was built from, set by the linker; empty when it was not
// set.
var commit string

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say what this program is made of, and what it reads and writes",
		Long: `Say the program's version and commit, the Go version and the modules that it was built
with, the versions of the files that it reads and writes, and the versions of Temporal's
server that its tests run on. Other servers may do, and were not tried.`,
		Example: `  heliotrope version
  heliotrope version --json | jq -r '.modules[] | .path + " " + .version'`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, _ := debug.ReadBuildInfo() // nil in a program that was built without modules
			made := madeOf(info)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), made)
			}
			return made.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the modules")
	return cmd
}

// versions says what a program is built from, and which formats it reads and writes.
type versions struct {
	Version         string        `json:"version"`
	Commit          string        `json:"commit,omitempty"` // Git's, in full
	Go              string        `json:"go"`               // as runtime.Version: go1.26.0
	Platform        string        `json:"platform"`         // linux/amd64
	Schemas         schemas       `json:"schemas"`
	TemporalServers []string      `json:"temporal_servers"` // versions that the tests run with
	Modules         []builtModule `json:"modules"`
}

// schemas are the versions of the formats of files that the program reads and writes.
type schemas struct {
	Campaign  int    `json:"campaign"`
	Inventory int    `json:"inventory"`
	Dataset   string `json:"dataset"`
}

// builtModule is a Go module in the program.
type builtModule struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum,omitempty"` // as in go.sum: h1: and the base64 of a SHA-256
}

// madeOf takes the modules and Go's version from what the linker wrote into the program.
func madeOf(info *debug.BuildInfo) versions {
	v := versions{Version: version, Commit: commit,
		Schemas:         schemas{Campaign: campaign.Version, Inventory: inventory.Version, Dataset: dataset.SchemaVersion},
		TemporalServers: temporal.TestedServers(), Modules: []builtModule{}}
	if info == nil {
		return v
	}
	v.Go = info.GoVersion
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	v.Platform = settings["GOOS"] + "/" + settings["GOARCH"]
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		v.Modules = append(v.Modules, builtModule{Path: module.Path, Version: module.Version, Sum: module.Sum})
	}
	return v
}

func (v versions) print(out io.Writer) error {
	made := ""
	if v.Commit != "" {
		made = ", commit " + v.Commit
	}
	_, err := fmt.Fprintf(out, "heliotrope %s%s, %s, %s, %d modules (--json lists them)\ncampaign files: version %d\ninventories: version %d\ndatasets: schema version %s\nTemporal servers that it was tested with: %s\n",
		v.Version, made, v.Go, v.Platform, len(v.Modules), v.Schemas.Campaign, v.Schemas.Inventory, v.Schemas.Dataset, strings.Join(v.TemporalServers, ", "))
	return err
}
