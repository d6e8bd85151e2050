package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/page"
	"heliotrope/analysis/summary"
)

// reportOptions are the arguments of report.
type reportOptions struct {
	out               string
	open, png, asJSON bool
}

func newReport() *cobra.Command {
	o := reportOptions{}
	cmd := &cobra.Command{
		Use:   "report DIR",
		Short: "Make a campaign's report: one HTML file, with its tables",
		Long: `Make the report of a campaign's dataset (DATA/campaign=NAME), or of the only campaign of a
data folder: report.html, which needs no network, with report.md, metrics.csv and
metrics.parquet. They go to the folder report in the campaign's, or to --out. What the
figures show is in docs/report.md. Of a dataset that "heliotrope ingest" made the page has a table
and figures of each log, and logs.csv is there instead of the metrics.

The dataset is verified against its manifest first, and nothing in it is changed. A report
of a campaign that still runs is of what it has so far, and says so. Ctrl-C leaves no half
file.

Exit codes: 0 the report is written, 1 it is not, 2 bad input: no dataset, or one that is
damaged or not compacted.`,
		Example: `  heliotrope report data/campaign=quick --open
  heliotrope report data --out /srv/www/quick --png
  heliotrope report data --json | jq -r .html`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.out, "out", "", "folder for the report; default: report in the campaign's folder")
	flags.BoolVar(&o.open, "open", false, "open report.html with this machine's browser (xdg-open)")
	flags.BoolVar(&o.png, "png", false, "write each figure as PNG too, to figures beside the report")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

// reported is the result of report.
type reported struct {
	Campaign    string   `json:"campaign"`
	TestbedKind string   `json:"testbed_kind"`
	HTML        string   `json:"html"`
	Files       []string `json:"files"` // all of them, except PNGs
	Bytes       int      `json:"bytes"` // of report.html
	Trials      int      `json:"trials"`
	Cells       int      `json:"cells"`
	Figures     int      `json:"figures"`
	Seconds     float64  `json:"seconds"`
	State       string   `json:"state,omitempty"`
}

func (o *reportOptions) run(cmd *cobra.Command, path string) error {
	began := time.Now()
	folder, err := onlyCampaign(path)
	if err != nil {
		return err
	}
	if err := wholeDataset(folder); err != nil {
		return err
	}
	campaign, err := page.Read(folder)
	if err != nil {
		return usageError{fmt.Errorf("report on %s: %w", folder, err)}
	}
	progress := newReading(cmd.ErrOrStderr())
	made, err := page.Make(cmd.Context(), campaign, page.Options{Version: version, Dir: folder, PNG: o.png, Progress: progress.done})
	progress.end()
	if err != nil {
		return fmt.Errorf("report on %s: %w", folder, err)
	}
	out := o.out
	if out == "" {
		out = filepath.Join(folder, dataset.ReportFolder)
	}
	files, err := made.Write(out)
	if err != nil {
		return fmt.Errorf("write the report of %s: %w", folder, err)
	}
	s := campaign.Summary
	result := reported{Campaign: s.Campaign, TestbedKind: s.TestbedKind, HTML: files[0], Files: files, Bytes: len(made.HTML()), Trials: s.Trials,
		Cells: len(s.Cells), Figures: made.Figures, Seconds: time.Since(began).Seconds(), State: s.State}
	if o.asJSON {
		err = printJSON(cmd.OutOrStdout(), result)
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s: %d trials, %d figures, %.1f MB, %.1f s\n%s\n", summary.KindSays(s.TestbedKind), s.Campaign, s.Trials, made.Figures,
			float64(result.Bytes)/1e6, result.Seconds, files[0])
	}
	if err != nil || !o.open {
		return err
	}
	return openFile(cmd, files[0])
}

// onlyCampaign is the folder of the campaign that a path names: the path itself, or the
// only campaign's folder in it.
func onlyCampaign(path string) (string, error) {
	folders, err := campaignFolders(path)
	if err != nil {
		return "", err
	}
	if len(folders) > 1 {
		names := make([]string, len(folders))
		for i, folder := range folders {
			names[i] = filepath.Base(folder)
		}
		return "", usageError{fmt.Errorf("%s holds %d campaigns: name the folder of one of them: %s", path, len(folders), strings.Join(names, ", "))}
	}
	return folders[0], nil
}

// wholeDataset says what is wrong with a dataset, file by file, and what to do.
func wholeDataset(folder string) error {
	problems, err := dataset.Check(folder)
	switch {
	case err != nil:
		return usageError{fmt.Errorf("%s cannot be read: %w", folder, err)}
	case len(problems) > 0:
		return notWhole(folder, problems)
	}
	if _, err := dataset.ReadManifest(folder); errors.Is(err, fs.ErrNotExist) {
		return usageError{fmt.Errorf("%s has no rows in its tables yet: `heliotrope compact %s` puts there what the campaign has so far", folder, folder)}
	}
	return nil
}

// notWhole says what is wrong with a dataset that has problems.
func notWhole(folder string, problems []dataset.Problem) error {
	const most = 3
	var texts []string
	for _, problem := range problems[:min(most, len(problems))] {
		texts = append(texts, problem.Path+" "+printable(problem.Text))
	}
	if more := len(problems) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more, which `heliotrope check` tells", more))
	}
	return usageError{fmt.Errorf("%s is no whole dataset: %s. `heliotrope compact %s` puts rows into the tables that are not there yet, and tables in order; a damaged file of a trial comes back from a copy only",
		folder, strings.Join(texts, "; "), folder)}
}

// openFile shows a file in this machine's browser.
func openFile(cmd *cobra.Command, path string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := exec.CommandContext(cmd.Context(), "xdg-open", absolute).Run(); err != nil {
		return fmt.Errorf("the report is written, but xdg-open does not open it: %w; open %s in a browser", err, absolute)
	}
	return nil
}

// quietFor is how long work goes on before its progress is shown.
const quietFor = 2 * time.Second

// reading shows how far the reading of trials is: with a bar on a terminal, with lines
// elsewhere, and not at all when it is soon over.
type reading struct {
	out   io.Writer
	began time.Time
	bars  *mpb.Progress
	bar   *mpb.Bar
	lines chan [2]int
	over  chan struct{}
}

func newReading(out io.Writer) *reading {
	r := &reading{out: out, began: time.Now(), lines: make(chan [2]int, 1), over: make(chan struct{})}
	go r.tell()
	return r
}

// done may be called from several goroutines.
func (r *reading) done(done, total int) { r.lines <- [2]int{done, total} }

// end waits until everything is shown.
func (r *reading) end() {
	close(r.lines)
	<-r.over
}

func (r *reading) tell() {
	defer close(r.over)
	last := r.began
	file, ok := r.out.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd()))
	for at := range r.lines {
		switch {
		case time.Since(r.began) < quietFor:
		case terminal && r.bars == nil:
			r.bars = mpb.New(mpb.WithOutput(r.out))
			r.bar = r.bars.New(int64(at[1]), mpb.BarStyle(), mpb.PrependDecorators(decor.Name("reading I/Os ")), mpb.AppendDecorators(decor.CountersNoUnit("%d of %d cells")))
			r.bar.SetCurrent(int64(at[0]))
		case terminal:
			r.bar.SetCurrent(int64(at[0]))
		case time.Since(last) >= quietFor:
			last = time.Now()
			fmt.Fprintf(r.out, "reading I/Os: %d of %d cells\n", at[0], at[1])
		}
	}
	if r.bars != nil {
		r.bar.Abort(false)
		r.bars.Wait()
	}
}
