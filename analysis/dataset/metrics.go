package dataset

import (
	"encoding/csv"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// ReportFolder is the folder of a campaign's report, in the campaign's folder. Nothing in
// it is part of the dataset.
const ReportFolder = "report"

// Metric is one metric of a cell in one direction, over all its results: a row of table
// metrics, which belongs to a report. A number that is not known is nil; ±∞ is a known
// number.
type Metric struct {
	CellID, Direction string
	Hypervisor        string
	Storage           string // with its variant
	WAN               string
	RTTMs             float64
	Access            string
	MemoryMiB         *int32 // nil: the inventory's
	VCPUs             *int32 // nil: not known
	Migration         string
	Control           string
	Metric, Unit      string
	Results, Failed   int32
	N, Infinite       int32
	Median, Low, High *float64
	MoreTrials        *int32
}

// Metrics is table metrics.
var Metrics = newTable("metrics", "What a report tells: the median of each metric over the migrations of each cell, in each direction.",
	required("cell_id", "", "combination of the factors", func(r *Metric) *string { return &r.CellID }),
	required("direction", "", "outbound: from site A to B; return", func(r *Metric) *string { return &r.Direction }),
	required("hypervisor", "", "factor", func(r *Metric) *string { return &r.Hypervisor }),
	required("storage", "", "factor, with its variant: drbd C", func(r *Metric) *string { return &r.Storage }),
	required("wan", "", "factor: the WAN's profile", func(r *Metric) *string { return &r.WAN }),
	required("rtt_ms", "ms", "round trip of the profile", func(r *Metric) *float64 { return &r.RTTMs }),
	required("access", "", "factor: name of the access specification", func(r *Metric) *string { return &r.Access }),
	optional("guest_memory_mib", "MiB", "factor: memory of the guest; null: the inventory's", func(r *Metric) **int32 { return &r.MemoryMiB }),
	optional("guest_vcpus", "", "factor: virtual processors of the guest; null: not known", func(r *Metric) **int32 { return &r.VCPUs }),
	required("migration", "", "factor: what the hypervisor was told; empty: pre-copy without limits", func(r *Metric) *string { return &r.Migration }),
	required("control", "", "none, lan, pause; empty for a cell of the matrix", func(r *Metric) *string { return &r.Control }),
	required("metric", "", "name of the metric", func(r *Metric) *string { return &r.Metric }),
	required("unit", "", "of median, low and high", func(r *Metric) *string { return &r.Unit }),
	required("results", "", "valid and target-failed trials of the cell", func(r *Metric) *int32 { return &r.Results }),
	required("failed", "", "target-failed ones of them", func(r *Metric) *int32 { return &r.Failed }),
	required("n", "", "migrations that have the metric", func(r *Metric) *int32 { return &r.N }),
	required("infinite", "", "of them, that failed, or had no end: values above all others", func(r *Metric) *int32 { return &r.Infinite }),
	optional("median", "see unit", "over the migrations; null of none", func(r *Metric) **float64 { return &r.Median }),
	optional("low", "see unit", "lower end of the median's interval of 95 % (BCa bootstrap); null of too few migrations", func(r *Metric) **float64 { return &r.Low }),
	optional("high", "see unit", "its upper end", func(r *Metric) **float64 { return &r.High }),
	optional("more_trials", "", "forecast of how many more results it takes until half of the interval is 5 % of the median; null when it cannot be told", func(r *Metric) **int32 { return &r.MoreTrials }),
)

// WriteMetrics writes table metrics to a folder, as metrics.parquet, with the
// provenance.
func WriteMetrics(folder string, provenance Provenance, rows []Metric) error {
	if err := provenance.check(); err != nil {
		return err
	}
	_, err := writeParquet(Metrics, filepath.Join(folder, Metrics.Name+".parquet"), metadata(Metrics, provenance), Rows(rows))
	return err
}

// ReadMetrics reads table metrics from a file as WriteMetrics writes it.
func ReadMetrics(path string) Batches[Metric] { return readParquet(Metrics, path) }

// WriteMetricsCSV writes the same rows as CSV (RFC 4180): first the kind of testbed, then
// the columns of table metrics. A number that is not known is empty, and ∞ is written as
// inf.
func WriteMetricsCSV(out io.Writer, provenance Provenance, rows []Metric) error {
	w := csv.NewWriter(out)
	header := []string{KeyTestbedKind}
	for _, column := range Metrics.Columns() {
		header = append(header, column.Name)
	}
	simulated := strconv.FormatBool(facts(provenance).simulated())
	lines := [][]string{header}
	for _, r := range rows {
		lines = append(lines, []string{provenance[KeyTestbedKind], r.CellID, r.Direction, r.Hypervisor, r.Storage, r.WAN, decimal(&r.RTTMs), r.Access, whole(r.MemoryMiB),
			whole(r.VCPUs), r.Migration, r.Control, r.Metric, r.Unit, whole(&r.Results), whole(&r.Failed), whole(&r.N), whole(&r.Infinite),
			decimal(r.Median), decimal(r.Low), decimal(r.High), whole(r.MoreTrials), simulated})
	}
	return w.WriteAll(lines)
}

func decimal(value *float64) string {
	if value == nil {
		return ""
	}
	return strconv.FormatFloat(*value, 'g', -1, 64)
}

func whole(value *int32) string {
	if value == nil {
		return ""
	}
	return strconv.Itoa(int(*value))
}

// ReadSpec reads the campaign file that a campaign was begun with; "" in a folder that is
// too old to have it.
func ReadSpec(folder string) (string, error) {
	text, err := os.ReadFile(filepath.Join(folder, planFolder, specFile))
	if os.IsNotExist(err) {
		return "", nil
	}
	return string(text), err
}
