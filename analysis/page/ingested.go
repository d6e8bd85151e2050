package page

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/figures"
	"heliotrope/analysis/samples"
	"heliotrope/analysis/summary"
	"heliotrope/internal/load/iolog"
)

// mostDrawn is the largest number of logs that get figures of their own: with more, the
// page would be too large.
const mostDrawn = 200

// mostReaders is how many logs are read at once, each with up to 30 MiB of memory.
const mostReaders = 4

// operations name an ingested log's rows of table phases.
var operations = map[string]string{dataset.WholeLog: "all", dataset.WholeReads: "read", dataset.WholeWrites: "write"}

// ingestedView is what the page shows of data that others measured.
type ingestedView struct {
	head
	Answer, Notes []string
	Main          summary.Table
	Overview      []figure
	Logs          []cell
	NotDrawn      string // says which logs have no figures; "" when all have
	How           []summary.Table
	Commands      []string
}

// ingestedLog is an attempt with its rows of table phases: all, reads, writes.
type ingestedLog struct {
	row    *dataset.Trial
	phases []dataset.Phase
	number int
	series samples.Series
}

func (l *ingestedLog) name() string { return l.row.CellID }

// makeIngested makes the report of an ingested dataset: of logs, without migrations.
func makeIngested(ctx context.Context, c Campaign, o Options, r *Report) error {
	logs := ingestedLogs(c.Tables)
	subject := "ingested logs " + c.Summary.Campaign
	head, err := newHead(c.Summary, o, subject, "Logs measured by others: "+c.Summary.Campaign, link{"answer", "At a glance"}, link{"logs", "Each log"}, link{"again", "How this was made"})
	if err != nil {
		return err
	}
	v := &ingestedView{head: head, Main: mainTable(logs)}
	v.Problems = append(v.Problems, c.Summary.Problems...)
	v.answer(logs)
	if err := v.draw(ctx, c, o, logs, r); err != nil {
		return err
	}
	v.addHow(c, o)
	var html, markdown, text bytes.Buffer
	if err := ingestedTemplate.Execute(&html, v); err != nil {
		return fmt.Errorf("make %s: %w", HTMLFile, err)
	}
	v.writeMarkdown(&markdown)
	if err := writeLogs(&text, c.Summary.TestbedKind, logs); err != nil {
		return err
	}
	r.html, r.markdown, r.csv, r.csvFile = html.Bytes(), markdown.Bytes(), text.Bytes(), LogsFile
	return ctx.Err()
}

// ingestedLogs are the attempts with their rows, ordered by name.
func ingestedLogs(tables summary.Tables) []*ingestedLog {
	of := map[string]*ingestedLog{}
	var logs []*ingestedLog
	for i := range tables.Trials {
		log := &ingestedLog{row: &tables.Trials[i]}
		of[log.row.Key] = log
		logs = append(logs, log)
	}
	for _, phase := range tables.Phases {
		if log := of[phase.Trial]; log != nil && operations[phase.Phase] != "" {
			log.phases = append(log.phases, phase)
		}
	}
	slices.SortStableFunc(logs, func(a, b *ingestedLog) int { return strings.Compare(a.name(), b.name()) })
	for i, log := range logs {
		log.number = i + 1
		slices.SortStableFunc(log.phases, func(a, b dataset.Phase) int { return strings.Compare(a.Phase, b.Phase) })
	}
	return logs
}

// source says where a log's response times come from.
func (l *ingestedLog) source() string {
	detail := ""
	if l.row.IODetail != nil {
		detail = *l.row.IODetail
	}
	switch {
	case detail == iolog.DetailAll:
		return "single I/Os"
	case detail == iolog.DetailHistogram:
		return "histograms"
	case slices.ContainsFunc(l.phases, func(p dataset.Phase) bool { return p.P50Ms != nil }):
		return "percentiles as they were told"
	}
	return "no percentiles"
}

// mainTable has a row for each log and operation.
func mainTable(logs []*ingestedLog) summary.Table {
	t := summary.Table{Title: "Each log by operation", Texts: 1,
		Header: []string{"#", "log", "operation", "I/Os", "1/s", "MB/s", "mean ms", "median ms", "99 % ms", "99.9 % ms", "longest ms", "from"}}
	for _, log := range logs {
		for i := range log.phases {
			p := &log.phases[i]
			if p.Phase == dataset.WholeLog && len(log.phases) == 2 {
				continue // the log has only one operation, whose row says the same
			}
			ios := "–"
			if p.IOs != nil {
				ios = strconv.FormatInt(*p.IOs, 10)
			}
			row := []string{strconv.Itoa(log.number), log.name(), operations[p.Phase], ios}
			for _, value := range []*float64{p.IOPS, p.MBPerS, p.MeanMs, p.P50Ms, p.P99Ms, p.P999Ms, p.MaxMs} {
				row = append(row, numberOf(value))
			}
			t.Rows = append(t.Rows, append(row, log.source()))
		}
	}
	return t
}

func numberOf(value *float64) string {
	if value == nil {
		return "–"
	}
	return summary.Number(*value)
}

// answer describes the logs in sentences.
func (v *ingestedView) answer(logs []*ingestedLog) {
	var ios int64
	var longest, most, least *dataset.Phase
	names := map[*dataset.Phase]string{}
	for _, log := range logs {
		for i := range log.phases {
			p := &log.phases[i]
			names[p] = operations[p.Phase] + ", " + log.name()
			if p.Phase == dataset.WholeLog {
				if p.IOs != nil {
					ios += *p.IOs
				}
				continue
			}
			if p.MaxMs != nil && (longest == nil || *p.MaxMs > *longest.MaxMs) {
				longest = p
			}
			if p.P50Ms != nil && (most == nil || *p.P50Ms > *most.P50Ms) {
				most = p
			}
			if p.P50Ms != nil && (least == nil || *p.P50Ms < *least.P50Ms) {
				least = p
			}
		}
	}
	v.Answer = []string{fmt.Sprintf("%d logs of others have %d I/Os.", len(logs), ios)}
	if longest != nil {
		v.Answer = append(v.Answer, fmt.Sprintf("The longest response time is %s ms (%s).", numberOf(longest.MaxMs), names[longest]))
	}
	switch least {
	case nil:
		v.Answer = append(v.Answer, "No median is known.")
	case most:
		v.Answer = append(v.Answer, fmt.Sprintf("The median is %s ms (%s).", numberOf(most.P50Ms), names[most]))
	default:
		v.Answer = append(v.Answer, fmt.Sprintf("The medians are from %s ms (%s) to %s ms (%s).", numberOf(least.P50Ms), names[least], numberOf(most.P50Ms), names[most]))
	}
	v.Notes = []string{"Rates are over a log's own time, from its first I/O to its last. Percentiles of single I/Os and of histograms are by nearest rank over all of a log's I/Os; those that were told as numbers " +
		"are as they were told: they cannot be put together, and are neither merged nor averaged. – is not known. " +
		"Two files of one run, such as its log and its JSON, have the same I/Os twice."}
}

// draw reads the logs' I/Os and draws their figures, for several logs at once.
func (v *ingestedView) draw(ctx context.Context, c Campaign, o Options, logs []*ingestedLog, r *Report) error {
	v.Logs = make([]cell, len(logs))
	var done atomic.Int64
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(min(runtime.GOMAXPROCS(0), mostReaders))
	for i, log := range logs {
		v.Logs[i] = cell{ID: fmt.Sprintf("log-%d", i+1), Number: i + 1, Name: log.name(), Says: log.says()}
		if i >= mostDrawn {
			v.NotDrawn = fmt.Sprintf("Figures are of the first %d logs only: of all %d the page would be too large. The table above has all. Ingest the others under a name of their own to see them.", mostDrawn, len(logs))
			continue
		}
		work.Go(func() error {
			drawn, err := log.draw(ctx, c.Folder, v.Logs[i].ID, v.KindName)
			if err == nil {
				v.Logs[i].Figures, err = r.add(drawn, o)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", log.name(), err)
			}
			if o.Progress != nil {
				o.Progress(int(done.Add(1)), min(len(logs), mostDrawn))
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	overview, err := r.add(overview(v.KindName, logs), o)
	if err != nil {
		return err
	}
	if v.Overview = overview; len(overview) > 0 {
		v.Contents = slices.Insert(v.Contents, 1, link{"compared", "Side by side"})
	}
	return nil
}

// says describes a log in a sentence.
func (l *ingestedLog) says() string {
	engine := "unknown program"
	if l.row.Engine != nil {
		engine = *l.row.Engine
	}
	seconds := float64(l.row.EndedTsNs-l.row.StartedTsNs) / 1e9
	text := fmt.Sprintf("By %s; response times from: %s; %s s, from %s on by the log's own times.", engine, l.source(), summary.Number(seconds), time.Unix(0, l.row.StartedTsNs).UTC().Format(time.RFC3339))
	if l.row.Notes != "" {
		text += " " + l.row.Notes
	}
	return text
}

// draw draws those figures of a log that it has data for.
func (l *ingestedLog) draw(ctx context.Context, folder, id, kind string) ([]figures.Figure, error) {
	whole := slices.IndexFunc(l.phases, func(p dataset.Phase) bool { return p.Phase == dataset.WholeLog })
	if whole < 0 {
		return nil, nil
	}
	var err error
	if l.series, err = samples.Whole(ctx, folder, l.row, l.phases[whole]); err != nil || len(l.series.Ops) == 0 {
		return nil, err
	}
	title := func(what string) figures.Title { return figures.Title{Of: kind + ": " + l.name(), What: what} }
	var distributions []figures.Distribution
	response, iops, mb := figures.OverTime{BinS: l.series.BinS}, figures.OverTime{BinS: l.series.BinS}, figures.OverTime{BinS: l.series.BinS}
	for _, op := range l.series.Ops {
		distributions = append(distributions, distribution(op.Op, op.All))
		response.Lines = append(response.Lines, figures.TimeLine{Name: op.Op, Values: op.MedianMs, Above: op.MaxMs})
		iops.Lines = append(iops.Lines, figures.TimeLine{Name: op.Op, Values: op.IOPS})
		mb.Lines = append(mb.Lines, figures.TimeLine{Name: op.Op, Values: op.MBPerS})
	}
	drawn := []figures.Figure{figures.SlowerOf(id+"-slower", title("response times by operation"), "operation", distributions, "")}
	if l.series.Bins == 0 {
		return drawn, nil
	}
	drawn = append(drawn, response.Response(id+"-response", title("response time over time")), iops.Rate(id+"-iops", title("I/Os a second over time"), "1/s"))
	if l.phases[whole].MBPerS != nil {
		drawn = append(drawn, mb.Rate(id+"-mb", title("MB/s over time"), "10^6 bytes/s"))
	}
	return drawn, nil
}

// overview shows the logs' distributions side by side, by operation, a few in each figure; there is
// none for a single log.
func overview(kind string, logs []*ingestedLog) []figures.Figure {
	var drawn []figures.Figure
	for _, op := range []string{dataset.OpRead, dataset.OpWrite} {
		var all []figures.Distribution
		for _, log := range logs {
			for _, of := range log.series.Ops {
				if of.Op == op {
					all = append(all, distribution(fmt.Sprintf("%d %s", log.number, ending(log.name())), of.All))
				}
			}
		}
		if len(all) < 2 {
			continue
		}
		for part := range slices.Chunk(all, figures.MostLines) {
			title := figures.Title{Of: kind, What: fmt.Sprintf("response times of each log: %s", op)}
			drawn = append(drawn, figures.SlowerOf(fmt.Sprintf("compared-%d", len(drawn)+1), title, "log", part, "A line is one log's, by its number below; they differ by colour, dashes and width."))
		}
	}
	return drawn
}

// ending is the end of a name that is too long for a legend.
func ending(name string) string {
	const most = 22
	if runes := []rune(name); len(runes) > most {
		return "…" + string(runes[len(runes)-most+1:])
	}
	return name
}

// addHow says what the dataset is, and with which commands this report can be made again.
func (v *ingestedView) addHow(c Campaign, o Options) {
	facts := summary.Table{Title: "The dataset", Header: []string{"what", "value"}, Rows: [][]string{
		{"name", c.Summary.Campaign}, {"kind", c.Summary.TestbedKind + ": measured by others; nothing vouches for their clocks, their load or their system"},
		{"ingested by", "heliotrope " + strings.Join(c.Summary.Binaries, ", ")}, {"this report was made by", "heliotrope " + o.Version},
		{"files in the dataset", strconv.Itoa(len(c.Manifest.Files))}}}
	v.How = append(v.How, facts)
	dir := shellQuoted(o.Dir)
	v.Commands = []string{"heliotrope check " + dir, "heliotrope report " + dir}
}

// writeMarkdown writes report.md: the page without its figures.
func (v *ingestedView) writeMarkdown(w *bytes.Buffer) {
	var out strings.Builder
	fmt.Fprintf(&out, "**%s**\n\n# %s\n\n", summary.Markdown(v.KindSays), summary.Markdown(v.Heading))
	for _, problem := range v.Problems {
		fmt.Fprintf(&out, "- **%s**\n", summary.Markdown(problem))
	}
	for i, sentence := range v.Answer {
		fmt.Fprintf(&out, "%d. %s\n", i+1, summary.Markdown(sentence))
	}
	writeTables(&out, "##", []summary.Table{v.Main})
	for _, note := range v.Notes {
		fmt.Fprintf(&out, "\n%s\n", summary.Markdown(note))
	}
	out.WriteString("\n## Each log\n\n")
	for _, log := range v.Logs {
		fmt.Fprintf(&out, "%d. %s: %s\n", log.Number, summary.Markdown(log.Name), summary.Markdown(log.Says))
	}
	out.WriteString("\n## How this was made, and how to make it again\n")
	writeTables(&out, "###", v.How)
	out.WriteString("\n```sh\n" + strings.Join(v.Commands, "\n") + "\n```\n")
	w.WriteString(out.String())
}

// writeLogs writes logs.csv (RFC 4180): the main table with all digits. A value that is not
// known is empty.
func writeLogs(out *bytes.Buffer, kind string, logs []*ingestedLog) error {
	lines := [][]string{{dataset.KeyTestbedKind, "log", "phase", "engine", "seconds", "ios", "bytes", "iops", "mb_per_s", "mean_ms", "p50_ms", "p99_ms", "p99_9_ms", "max_ms", "from"}}
	for _, log := range logs {
		for _, p := range log.phases {
			line := []string{kind, log.name(), p.Phase, "", strconv.FormatFloat(p.Seconds, 'g', -1, 64)}
			if log.row.Engine != nil {
				line[3] = *log.row.Engine
			}
			for _, count := range []*int64{p.IOs, p.Bytes} {
				text := ""
				if count != nil {
					text = strconv.FormatInt(*count, 10)
				}
				line = append(line, text)
			}
			for _, value := range []*float64{p.IOPS, p.MBPerS, p.MeanMs, p.P50Ms, p.P99Ms, p.P999Ms, p.MaxMs} {
				text := ""
				if value != nil {
					text = strconv.FormatFloat(*value, 'g', -1, 64)
				}
				line = append(line, text)
			}
			lines = append(lines, append(line, log.source()))
		}
	}
	return csv.NewWriter(out).WriteAll(lines)
}
