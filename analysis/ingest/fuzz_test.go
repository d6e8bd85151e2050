package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/stats"
)

// FuzzDocuments: a document that can be read gives I/Os, times in order, and histograms whose counts
// add up; any other gives problems of one line each.
func FuzzDocuments(f *testing.F) {
	f.Add(string(JSON), `{"fio version": "x", "jobs": [{"jobname": "a", "write": {"total_ios": 3, "lat_ns": {"N": 3, "max": 900, "mean": 5, "percentile": {"50.000000": 7}}}}]}`)
	f.Add(string(JSON), `{"fio version": "x", "jobs": [{"jobname": "a", "read": {"total_ios": 3, "runtime": 5, "clat_ns": {"N": 3, "max": 900, "mean": 5, "bins": {"129": 2, "888": 1}}}}]}`)
	f.Add(string(JSON), `{"fio version": "x", "jobs": [{"mixed": {"total_ios": 9223372036854775807}}, {"write": {"total_ios": 1}}]}`)
	f.Add(string(Iometer), captured(f, "results/testdata/2006.07.27.csv"))
	f.Fuzz(func(t *testing.T, kind, text string) {
		parse := documents[Kind(kind)]
		if parse == nil {
			return
		}
		all, err := parse(Source{Name: "x"}, strings.NewReader(text), time.Time{})
		if err != nil {
			for _, problem := range (&unreadableError{err}).problems() {
				require.NotContains(t, problem, "\n")
			}
			return
		}
		require.NotEmpty(t, all)
		for _, m := range all {
			require.Positive(t, m.ios)
			require.LessOrEqual(t, m.fromNs, m.toNs)
			require.Equal(t, dataset.WholeLog, m.phases[0].Phase)
			for _, h := range m.histograms {
				of := &stats.Histogram{}
				require.NoError(t, of.AddCounts(h.Counts, h.MaxNs))
				require.Equal(t, h.IOs, of.Count)
			}
		}
	})
}
