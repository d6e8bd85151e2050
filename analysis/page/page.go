// Package page makes the report of a campaign: report.html, one file that needs no network
// and no script; report.md, metrics.csv and metrics.parquet.
//
// It promises that the kind of testbed is named before any number, in each figure's title,
// and in each file; that numbers come from the dataset's rows, through packages summary
// (medians and spreads), answers (intervals and comparisons) and samples (I/Os); that every
// figure has its table; and that each file is either written as a whole or stays as it was.
// report.html is written last: when it is new, the other files come from the same rows.
//
// Dangerous: the report of a campaign that still runs shows what the campaign has so far.
// The report says that first.
package page

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/figures"
	"heliotrope/analysis/group"
	"heliotrope/analysis/samples"
	"heliotrope/analysis/summary"
)

//go:embed page.html ingested.html parts.html style.css
var sources embed.FS

var (
	pageTemplate     = template.Must(template.New("page.html").ParseFS(sources, "parts.html", "page.html"))
	ingestedTemplate = template.Must(template.New("ingested.html").ParseFS(sources, "parts.html", "ingested.html"))
	styleTemplate    = template.Must(template.New("style.css").ParseFS(sources, "style.css"))
)

// The files of a report.
const (
	HTMLFile     = "report.html"
	MarkdownFile = "report.md"
	CSVFile      = "metrics.csv"
	LogsFile     = "logs.csv" // instead of the metrics, for an ingested dataset
	figureFolder = "figures"  // PNGs
)

// Options are the options of a report.
type Options struct {
	Version  string // of the program
	Dir      string // the dataset's folder, as the user wrote it
	PNG      bool   // write the figures as PNG, too
	Progress func(done, total int)
}

// Report is the files of a report.
type Report struct {
	html, markdown, csv []byte
	csvFile             string            // its name
	pngs                map[string][]byte // by name
	metrics             []dataset.Metric  // only with CSVFile
	provenance          dataset.Provenance
	Figures             int
	mu                  sync.Mutex // guards pngs and Figures while cells are drawn
}

// Make makes a report. It reads the I/Os of the campaign's trials. When the context ends,
// Make ends with the context's error.
func Make(ctx context.Context, c Campaign, o Options) (*Report, error) {
	r := &Report{pngs: map[string][]byte{}}
	r.provenance = dataset.Provenance{dataset.KeyCampaign: c.Summary.Campaign, dataset.KeyTestbedKind: c.Summary.TestbedKind,
		"binary_version": o.Version, "spec_sha256": strings.Join(c.Summary.Specs, " ")}
	if summary.IsIngested(c.Summary.TestbedKind) {
		err := makeIngested(ctx, c, o, r)
		return r, err
	}
	r.csvFile, r.metrics = CSVFile, metrics(c.Answers)
	view, err := newView(c, o)
	if err != nil {
		return r, err
	}
	if view.Distances, err = r.add(distances(c.Answers, view.KindName), o); err != nil {
		return r, err
	}
	if err := view.addCells(ctx, c, o, r); err != nil {
		return r, err
	}
	var html, markdown, csv bytes.Buffer
	if err := pageTemplate.Execute(&html, view); err != nil {
		return r, fmt.Errorf("make %s: %w", HTMLFile, err)
	}
	if err := writeMarkdown(&markdown, view); err != nil {
		return r, err
	}
	if err := dataset.WriteMetricsCSV(&csv, r.provenance, r.metrics); err != nil {
		return r, err
	}
	r.html, r.markdown, r.csv = html.Bytes(), markdown.Bytes(), csv.Bytes()
	return r, ctx.Err()
}

// HTML is report.html.
func (r *Report) HTML() []byte { return r.html }

// Write writes the report's files to a folder, report.html last, and returns their paths,
// that of report.html first.
func (r *Report) Write(folder string) ([]string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	paths := []string{filepath.Join(folder, HTMLFile), filepath.Join(folder, MarkdownFile), filepath.Join(folder, r.csvFile)}
	if r.csvFile == CSVFile {
		if err := dataset.WriteMetrics(folder, r.provenance, r.metrics); err != nil {
			return nil, err
		}
		paths = append(paths, filepath.Join(folder, dataset.Metrics.Name+".parquet"))
	}
	type file struct {
		path string
		text []byte
	}
	var files []file
	if len(r.pngs) > 0 {
		if err := os.MkdirAll(filepath.Join(folder, figureFolder), 0o755); err != nil {
			return nil, err
		}
	}
	for name, png := range r.pngs {
		files = append(files, file{filepath.Join(folder, figureFolder, name+".png"), png})
	}
	for _, one := range append(files, file{paths[2], r.csv}, file{paths[1], r.markdown}, file{paths[0], r.html}) {
		if err := renameio.WriteFile(one.path, one.text, 0o644); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// head is the beginning of a page.
type head struct {
	Version, KindSays, KindName string
	Subject, Heading            string // what the page is about
	Model                       bool
	Style                       template.CSS
	Contents                    []link
	Problems                    []string
}

// view is what the page shows.
type view struct {
	head
	Campaign                    string
	Facts                       []string
	Answer                      []string
	AnswerTables, FoldedTables  []summary.Table
	AnswerNotes                 []string
	Distances                   []figure
	Grids                       []grid
	Cells                       []cell
	Outcomes, Load, Stall, Wire []summary.Table
	Recovery, Validity, How     []summary.Table
	Failures                    []failure
	FailuresSay                 string
	Commands                    []string
	Spec, SpecSHA256            string
}

type link struct{ ID, Title string }

// cell is the part of the page about one cell.
type cell struct {
	ID, Name, Says string
	Number         int
	Figures        []figure
	Table          summary.Table // what is known of its metrics
}

// figure is a figure of the page.
type figure struct {
	ID, Caption string
	SVG         template.HTML
	Table       summary.Table
}

// newHead makes the beginning of a dataset's page.
func newHead(s summary.Summary, o Options, subject, heading string, contents ...link) (head, error) {
	var style bytes.Buffer
	if err := styleTemplate.Execute(&style, map[string]any{"Inks": figures.Inks()}); err != nil {
		return head{}, fmt.Errorf("make the report's style: %w", err)
	}
	return head{Version: o.Version, KindSays: summary.KindSays(s.TestbedKind), KindName: summary.KindName(s.TestbedKind), Model: summary.IsModel(s.TestbedKind),
		Subject: subject, Heading: heading, Contents: contents, Style: template.CSS(style.String())}, nil //nolint:gosec // our own
}

func newView(c Campaign, o Options) (*view, error) {
	s := c.Summary
	head, err := newHead(s, o, "campaign "+s.Campaign, "Campaign "+s.Campaign, link{"answer", "The answer"}, link{"matrix", "The matrix"}, link{"cells", "Cells"},
		link{"witnesses", "Witnesses"}, link{"traffic", "Traffic"}, link{"recovery", "Recovery"}, link{"validity", "Validity"}, link{"failures", "Failures"}, link{"again", "How to run it again"})
	if err != nil {
		return nil, err
	}
	v := &view{head: head, Campaign: s.Campaign}
	for _, fact := range s.Facts() {
		if fact == s.State || strings.HasPrefix(fact, "PROBLEM") || strings.Contains(fact, "LOST") {
			v.Problems = append(v.Problems, fact)
		} else {
			v.Facts = append(v.Facts, fact)
		}
	}
	names := summary.Names(s.Cells)
	v.addAnswer(c.Answers)
	v.Grids = grids(s.Cells)
	for _, table := range s.Tables() {
		of := map[summary.Part]*[]summary.Table{summary.PartOutcomes: &v.Outcomes, summary.PartLoad: &v.Load, summary.PartStall: &v.Stall, summary.PartWire: &v.Wire,
			summary.PartRecovery: &v.Recovery, summary.PartValidity: &v.Validity}[table.Part]
		*of = append(*of, table)
	}
	v.addFailures(c, names)
	return v, v.addHow(c, o)
}

// addCells reads the I/Os of the cells and draws their figures, for several cells at once.
func (v *view) addCells(ctx context.Context, c Campaign, o Options, r *Report) error {
	s := c.Summary
	names := summary.Names(s.Cells)
	trials := samples.Sort(c.Tables.Trials, c.Tables.Phases, c.Tables.Witnesses)
	wire := newWire(c.Tables)
	v.Cells = make([]cell, len(s.Cells))
	var done atomic.Int64
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i := range s.Cells {
		work.Go(func() error {
			of := s.Cells[i]
			drawn, err := drawCell(ctx, c, fmt.Sprintf("cell-%d", i+1), summary.KindName(s.TestbedKind)+": "+names[i],
				trials[group.Key{CellID: of.ID, Direction: of.Direction}], wire)
			if err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			v.Cells[i] = cell{ID: fmt.Sprintf("cell-%d", i+1), Name: names[i], Number: i + 1, Says: says(of), Table: known(c.Answers, of)}
			if v.Cells[i].Figures, err = r.add(drawn, o); err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			if o.Progress != nil {
				o.Progress(int(done.Add(1)), len(s.Cells))
			}
			return nil
		})
	}
	return work.Wait()
}

// add makes elements of the page from figures, and PNGs if they are wanted.
func (r *Report) add(drawn []figures.Figure, o Options) ([]figure, error) {
	var added []figure
	for _, f := range drawn {
		added = append(added, figure{ID: f.ID, Caption: f.Description, Table: f.Table, SVG: template.HTML(f.SVG())}) //nolint:gosec // texts in it are escaped
		var png bytes.Buffer
		if o.PNG {
			if err := f.WritePNG(&png); err != nil {
				return nil, fmt.Errorf("draw %s as PNG: %w", f.ID, err)
			}
		}
		r.mu.Lock()
		if r.Figures++; o.PNG {
			r.pngs[f.ID] = png.Bytes()
		}
		r.mu.Unlock()
	}
	return added, nil
}

// says describes a cell in a sentence.
func says(of summary.Cell) string {
	var parts []string
	for _, verdict := range []string{"valid", "target-failed", "invalid"} {
		for key, n := range of.Verdicts {
			if string(key) == verdict && n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n, verdict))
			}
		}
	}
	return fmt.Sprintf("Trials: %s, by %d attempts. Cell ID %s, %s.", strings.Join(parts, ", "), of.Ran.Attempts, of.ID, of.Direction)
}
