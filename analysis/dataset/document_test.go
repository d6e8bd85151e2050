package dataset_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/onhost"
)

var update = flag.Bool("update", false, "write docs/dataset.md")

const documentPath = "../../docs/dataset.md"

const documentHead = `# The dataset

<!-- Written by ` + "`go test ./analysis/dataset -run TestDocument -update`" + ` from the tables' definitions in
analysis/dataset/tables.go, the counters' in internal/witness/names.go, and the drivers' (internal/onhost): edit those. -->

A campaign leaves this in its data folder:

` + "```" + `
campaign=NAME/
  trials.parquet                     each trial: its attempt that counts
  attempts.parquet                   each attempt of each trial
  phases.parquet                     the load's I/O before, during and after the migration
  witnesses.parquet                  what each of the four witnesses says of the stall
  certificates.parquet               what the WAN was measured to be
  traffic.parquet                    bytes on the WAN by class
  ledger.parquet                     acknowledged writes that were found again, or not
  teardowns.parquet                  how the hosts were left after each attempt
  campaign_events.parquet            what was decided about the campaign while it ran
  manifest.json                      every Parquet file: path, bytes, SHA-256, rows, table; the evidence; and what is in plan/
  identity.json                      which campaign this is of; made once
  plan/                              what the campaign was begun with: its file, its trials, its settings, its inventories
  control/                           what its writers agree by
  summary.md
  report/                            a report, when one was made (report.md): no part of the dataset
  storage=S/rtt_ms=R/attempt=KEY/    an attempt of a trial
    io.parquet                       each I/O
    counters.parquet                 the hosts' counters
    events.parquet                   what happened
    heartbeats.parquet               the guest's datagrams that arrived at site A
    clocks.parquet                   readings of the machines' clocks
    domains.parquet                  states of the domains on the hypervisors
    histograms.parquet               the I/Os that the load's log had no room for one by one
    evidence/                        of a failure: consoles, logs, states; files of any kind
  segments/                          attempts that are not in attempts.parquet yet
` + "```" + `

- A trial is a cell of the plan, to be measured once; its ` + "`trial`" + ` is its number in the plan. An attempt is one try of it; its ` + "`attempt`" + `
  is its key, unique in the campaign: 00007.2 is the second one of trial 7. Join tables by ` + "`attempt`" + `: with table trials, each
  trial counts once; with table attempts, all that was tried is there.
- Folders are Hive partitions: ` + "`campaign`, `storage`, `rtt_ms` and `attempt`" + ` are columns when a reader is told so, and are not
  columns of the files below them.
- ` + "`ts_ns`" + ` columns are int64, nanoseconds since 1970 UTC **on the controller's time base**: the hosts' and the guest's clocks
  are converted with the offsets that were measured. Beside them ` + "`ts`" + ` columns have the same as timestamp[ns, UTC], for readers that know
  times. DuckDB cuts these to µs: reckon with ` + "`ts_ns`" + `. Tables io and heartbeats have no such column: of a trial on the emulated
  testbed their files would be 36 and 48 % larger. In DuckDB ` + "`make_timestamp_ns(ts_ns)`" + ` is one.
- An attempt whose load's log was never fetched, or cannot be put on the time base, has no io.parquet and no histograms.parquet.
- Null means that something is not known or does not apply. It is never 0, and 0 is never "not known".
- ` + "`simulated`" + ` is in every row of every table: such numbers are a model's and no measurement. Testbeds have more kinds than
  these two: ` + "`testbed_kind`" + ` is in attempts and in every file's metadata.
- Every file's key-value metadata has its provenance: campaign, testbed kind, binary version, spec, and more; and ` + "`schema_version`" + `
  (` + dataset.SchemaVersion + `). The units below are in the Arrow fields' metadata as ` + "`unit`" + `, which is in the file as ` + "`ARROW:schema`" + `.
- Files without ` + "`schema_version`" + ` are of version 1: there trials.parquet has the attempts, ` + "`trial`" + ` is the attempt's key in all tables
  and folders, ` + "`sequence`" + ` the trial's number, and ` + "`attempt`" + ` the attempt's. This program reads both.
- Heartbeats, clocks, domains and the evidence, and the campaign's tables from witnesses to ledger, came later than the others: a campaign from
  before has none of them, and its trials have null or empty in their columns.
- The manifest lists the files of the evidence by size and SHA-256, apart from the tables.
- A file under its final name is complete. A damaged one is renamed to ` + "`*.damaged`" + `, and named where it is found.

In DuckDB, from the data folder:

` + "```sql" + `
SELECT cell_id, direction, count(*) AS ios, max(latency_ns) / 1e6 AS max_ms
FROM read_parquet('campaign=NAME/*/*/*/io.parquet', hive_partitioning = true,
                  hive_types = {'rtt_ms': DOUBLE, 'attempt': VARCHAR})
JOIN (SELECT attempt, cell_id, direction FROM 'campaign=NAME/trials.parquet' WHERE NOT sentinel AND verdict = 'valid') USING (attempt)
GROUP BY ALL ORDER BY ALL;
` + "```" + `
`

const documentBuckets = `
## Buckets

What ` + "`counts`" + ` is in table histograms. The bucket of a response time below 256 ns is the number of ns. Above, with 2^k ns the greatest power
of two that is no more than it, it is 128 · (k − 7) + floor(ns / 2^(k − 7)): what is in a bucket is within 0.4 % of its middle.
`

// document is the data dictionary.
func document() []byte {
	var out bytes.Buffer
	out.WriteString(documentHead)
	for _, table := range tables() {
		writeTable(&out, table)
	}
	out.WriteString(documentBuckets)
	out.WriteString("\n## Counters\n\nWhat `value` is in table counters. One that grows starts again at 0 when its device is made anew.\n\n")
	out.WriteString("| device | name | unit | grows | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, c := range onhost.Counters() {
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", c.Device, c.Name, c.Unit, yes(c.Grows), c.Text)
	}
	return out.Bytes()
}

// described is a table as the dictionary has it.
type described struct {
	name, description string
	columns           []dataset.Column
	inFolder          []string // the keys of the partitions that its files are in
}

func describe[R any](table *dataset.Table[R], inFolder ...string) described {
	return described{table.Name, table.Description, table.Columns(), inFolder}
}

// tables are all, in the dictionary's order.
func tables() []described {
	attempt := []string{"campaign", "storage", "rtt_ms", "attempt"}
	return []described{
		describe(dataset.Trials, "campaign"), describe(dataset.Attempts, "campaign"), describe(dataset.Phases, "campaign"), describe(dataset.Witnesses, "campaign"),
		describe(dataset.Certificates, "campaign"), describe(dataset.Traffics, "campaign"), describe(dataset.Ledgers, "campaign"),
		describe(dataset.Teardowns, "campaign"), describe(dataset.CampaignEvents, "campaign"),
		describe(dataset.IOs, attempt...), describe(dataset.Histograms, attempt...), describe(dataset.Counters, attempt...), describe(dataset.Events, attempt...),
		describe(dataset.Heartbeats, attempt...), describe(dataset.Clocks, attempt...), describe(dataset.Domains, attempt...),
	}
}

func writeTable(out *bytes.Buffer, table described) {
	fmt.Fprintf(out, "\n## %s.parquet\n\n%s\n\n| column | type | unit | null | meaning |\n| --- | --- | --- | --- | --- |\n", table.name, table.description)
	for _, c := range table.columns {
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

// A column that cannot be understood from the dictionary is of no use, and a column that is
// also a partition's key makes DuckDB fail or give wrong answers.
func TestEveryColumnIsDescribedAndNoPartition(t *testing.T) {
	for _, table := range tables() {
		name := table.name
		seen := map[string]bool{}
		for _, c := range table.columns {
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
		for _, key := range table.inFolder {
			if seen[key] {
				t.Errorf("%s.%s is a partition of its folder", name, key)
			}
		}
	}
}
