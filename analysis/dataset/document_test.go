package dataset_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/witness"
)

var update = flag.Bool("update", false, "write docs/dataset.md")

const documentPath = "../../docs/dataset.md"

const documentHead = `# The dataset

<!-- Written by ` + "`go test ./analysis/dataset -run TestDocument -update`" + ` from the tables' definitions in
analysis/dataset/tables.go and the counters' in internal/witness/names.go: edit those. -->

A campaign leaves this in its data folder:

` + "```" + `
campaign=NAME/
  trials.parquet                     each attempt of each trial
  phases.parquet                     the load's I/O before, during and after the migration
  manifest.json                      every Parquet file: path, bytes, SHA-256, rows, table
  summary.md
  storage=S/rtt_ms=R/trial=KEY/      an attempt of a trial
    io.parquet                       each I/O
    counters.parquet                 the hosts' counters
    events.parquet                   what happened
  segments/                          attempts that are not in trials.parquet yet
` + "```" + `

- Folders are Hive partitions: ` + "`campaign`, `storage`, `rtt_ms` and `trial`" + ` are columns when a reader is told so, and are not
  columns of the files below them.
- ` + "`ts_ns`" + ` columns are int64, nanoseconds since 1970 UTC **on the controller's time base**: the hosts' and the guest's clocks
  are converted with the offsets that were measured.
- Null means that something is not known or does not apply. It is never 0, and 0 is never "not known".
- ` + "`testbed_kind`" + ` is in every row of trials and in every file's metadata. Rows of ` + "`simulated`" + ` testbeds are a model's and no
  measurement.
- Every file's key-value metadata has its provenance: campaign, testbed kind, binary version, spec, and more.
- A file under its final name is complete. A damaged one is renamed to ` + "`*.damaged`" + `, and named where it is found.

In DuckDB, from the data folder:

` + "```sql" + `
SELECT storage, rtt_ms, count(*) AS ios, max(latency_ns) / 1e6 AS max_ms
FROM read_parquet('campaign=NAME/*/*/*/io.parquet', hive_partitioning = true,
                  hive_types = {'rtt_ms': DOUBLE, 'trial': VARCHAR})
JOIN (SELECT trial FROM 'campaign=NAME/trials.parquet' WHERE counted AND verdict = 'valid') USING (trial)
GROUP BY ALL ORDER BY ALL;
` + "```" + `
`

// document is the data dictionary.
func document() []byte {
	var out bytes.Buffer
	out.WriteString(documentHead)
	writeTable(&out, dataset.Trials.Name, dataset.Trials.Description, dataset.Trials.Columns())
	writeTable(&out, dataset.Phases.Name, dataset.Phases.Description, dataset.Phases.Columns())
	writeTable(&out, dataset.IOs.Name, dataset.IOs.Description, dataset.IOs.Columns())
	writeTable(&out, dataset.Counters.Name, dataset.Counters.Description, dataset.Counters.Columns())
	writeTable(&out, dataset.Events.Name, dataset.Events.Description, dataset.Events.Columns())
	out.WriteString("\n## Counters\n\nWhat `value` is in table counters. One that grows starts again at 0 when its device is made anew.\n\n")
	out.WriteString("| device | name | unit | grows | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, c := range witness.Counters {
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", c.Device, c.Name, c.Unit, yes(c.Grows), c.Text)
	}
	return out.Bytes()
}

func writeTable(out *bytes.Buffer, name, description string, columns []dataset.Column) {
	fmt.Fprintf(out, "\n## %s.parquet\n\n%s\n\n| column | type | unit | null | meaning |\n| --- | --- | --- | --- | --- |\n", name, description)
	for _, c := range columns {
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", c.Name, c.Type, c.Unit, yes(c.Nullable), c.Description)
	}
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return ""
}

func TestDocument(t *testing.T) {
	want := document()
	if *update {
		if err := os.WriteFile(documentPath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the tables say: go test ./analysis/dataset -run TestDocument -update", documentPath)
	}
}

// A column that cannot be understood from the dictionary is no use, and one
// that is a partition's key too makes DuckDB fail or lie.
func TestEveryColumnIsDescribedAndNoPartition(t *testing.T) {
	inFolder := map[string][]string{
		"io": {"campaign", "storage", "rtt_ms", "trial"}, "counters": {"campaign", "storage", "rtt_ms", "trial"},
		"events": {"campaign", "storage", "rtt_ms", "trial"}, "trials": {"campaign"}, "phases": {"campaign"},
	}
	for name, columns := range map[string][]dataset.Column{
		dataset.IOs.Name: dataset.IOs.Columns(), dataset.Counters.Name: dataset.Counters.Columns(),
		dataset.Events.Name: dataset.Events.Columns(), dataset.Trials.Name: dataset.Trials.Columns(),
		dataset.Phases.Name: dataset.Phases.Columns(),
	} {
		seen := map[string]bool{}
		for _, c := range columns {
			if c.Description == "" || seen[c.Name] {
				t.Errorf("%s.%s: description %q, twice: %v", name, c.Name, c.Description, seen[c.Name])
			}
			seen[c.Name] = true
			for unit, suffixes := range map[string][]string{"ns": {"_ns"}, "ms": {"_ms"}, "bytes": {"bytes"}, "MiB": {"_mib"}} {
				for _, suffix := range suffixes {
					if strings.HasSuffix(c.Name, suffix) != (c.Unit == unit) {
						t.Errorf("%s.%s has unit %q", name, c.Name, c.Unit)
					}
				}
			}
		}
		for _, key := range inFolder[name] {
			if seen[key] {
				t.Errorf("%s.%s is a partition of its folder", name, key)
			}
		}
	}
}
