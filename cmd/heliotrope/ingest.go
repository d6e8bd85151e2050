package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"heliotrope/analysis/ingest"
	"heliotrope/internal/campaign"
)

// Limits within which ingesting stays, regardless of the number and length of logs.
const (
	ingestMemory = 180 << 20 // bytes of the Go heap; the program itself takes some 50 MiB
	mostAtOnce   = 4         // logs read at once, each with some 40 MiB
)

func newIngest() *cobra.Command {
	options := ingest.Options{Version: version}
	var began string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ingest PATH...",
		Short: "Make a dataset of what others measured with fio or Iometer",
		Long: `Make a dataset of what fio or Iometer wrote for somebody else: files, or folders of them, packed
with gzip or not.

  NAME_lat.1.log, NAME_clat.1.log   fio's logs of single I/Os, of any fio 3
  NAME_clat_hist.1.log              its histogram logs, where there is none of single I/Os
  *.json, *.txt, *.out              its output, --output-format=json or json+
  *.csv                             Iometer's results

Of each log, job and test there will be an attempt in the tables of campaign NAME, whose testbed is
"ingested". Doing it again takes only files that are new or were changed, and after a crash it goes
on. "heliotrope report" makes a page of it.

A file that cannot be understood is named with its lines, and nothing of it is taken; the others
are. Exit code 1 says that there was one.`,
		Example: `  heliotrope ingest --name tuning results/ && heliotrope report data/campaign=tuning --open
  heliotrope ingest --name tuning --began 2026-11-30T08:00:00Z job_lat.1.log.gz   # its times count from then
  heliotrope ingest --name tuning fio.json iometer.csv
  heliotrope check data/campaign=tuning`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if began != "" {
				var err error
				if options.Began, err = time.Parse(time.RFC3339, began); err != nil {
					return usageError{fmt.Errorf("--began: %w", err)}
				}
			}
			if !campaign.ValidName(options.Name) {
				return usageError{fmt.Errorf("--name %q is no name of a campaign", options.Name)}
			}
			return ingestPaths(cmd, options, args, asJSON)
		},
	}
	cmd.Flags().StringVar(&options.Data, "data", "data", "data folder")
	cmd.Flags().StringVar(&options.Name, "name", "ingested", "name of the dataset")
	cmd.Flags().StringVar(&began, "began", "", "when the logs began (RFC 3339), where their times count from their beginning")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func ingestPaths(cmd *cobra.Command, options ingest.Options, paths []string, asJSON bool) error {
	sources, skipped, err := ingest.Find(paths...)
	if err != nil {
		return err
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(ingestMemory))
	options.AtOnce = min(runtime.GOMAXPROCS(0), mostAtOnce)
	read, done := ingestBar(cmd.ErrOrStderr(), sources)
	options.Read = read
	result, err := ingest.Run(cmd.Context(), options, sources)
	done()
	if err != nil && len(result.Ingested)+len(result.Failed) == 0 {
		return err
	}
	result.Skipped = skipped
	if asJSON {
		if err := printJSON(cmd.OutOrStdout(), result); err != nil {
			return err
		}
	} else {
		printIngested(cmd.OutOrStdout(), result)
	}
	switch {
	case err != nil:
		return err
	case len(result.Failed) > 0:
		return fmt.Errorf("%d of %d files could not be ingested", len(result.Failed), len(sources))
	case len(sources) == 0:
		return usageError{fmt.Errorf("there is no result of fio's or Iometer's in %q", paths)}
	}
	return nil
}

// ingestBar shows on a terminal how many bytes of the logs have been read.
func ingestBar(out io.Writer, sources []ingest.Source) (read func(bytes int64), done func()) {
	file, is := out.(*os.File)
	if !is || !term.IsTerminal(int(file.Fd())) {
		return nil, func() {}
	}
	var total int64
	for _, source := range sources {
		total += source.Bytes
	}
	container := mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(barRefresh))
	bar := container.New(total, mpb.BarStyle(), mpb.BarWidth(30),
		mpb.AppendDecorators(decor.CountersKibiByte(" % .1f of % .1f"), decor.AverageSpeed(decor.SizeB1024(0), " % .1f")))
	return func(bytes int64) { bar.IncrInt64(bytes) }, func() {
		bar.Abort(false)
		container.Wait()
	}
}

func printIngested(out io.Writer, result ingest.Result) {
	var ios int64
	for _, one := range result.Ingested {
		ios += one.IOs
		which := "attempt " + one.Attempts[0]
		if n := len(one.Attempts); n > 1 {
			which = fmt.Sprintf("attempts %s to %s", one.Attempts[0], one.Attempts[n-1])
		}
		fmt.Fprintf(out, "%s: %s, %d I/Os\n", printable(one.Source), which, one.IOs)
	}
	for _, one := range result.Skipped {
		fmt.Fprintf(out, "%s: skipped: %s\n", printable(one.Path), one.Reason)
	}
	for _, one := range result.Failed {
		for _, problem := range one.Problems {
			fmt.Fprintf(out, "%s: not ingested: %s\n", printable(one.Path), printable(problem))
		}
	}
	for _, problem := range result.Problems {
		fmt.Fprintf(out, "%s: %s\n", problem.Path, printable(problem.Text))
	}
	fmt.Fprintf(out, "%s: %d files with %d I/Os now, %d were there already\n", result.Folder, len(result.Ingested), ios, len(result.Before))
}
