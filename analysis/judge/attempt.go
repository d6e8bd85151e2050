package judge

import (
	"path/filepath"

	"heliotrope/analysis/dataset"
)

// Attempts are all attempts of a campaign's folder, with their rows.
type Attempts struct {
	Trials       []dataset.Trial
	folder       string
	certificates map[string][]dataset.Certificate
	ledger       map[string][]dataset.Ledger
}

// ReadAttempts reads the campaign's tables that judging again needs.
func ReadAttempts(folder string) (Attempts, error) {
	a := Attempts{folder: folder, certificates: map[string][]dataset.Certificate{}, ledger: map[string][]dataset.Ledger{}}
	var err error
	if a.Trials, err = dataset.ReadAttempts(folder); err != nil {
		return a, err
	}
	certificates, err := dataset.ReadCertificates(folder)
	if err != nil {
		return a, err
	}
	for _, row := range certificates {
		a.certificates[row.Trial] = append(a.certificates[row.Trial], row)
	}
	ledger, err := dataset.ReadLedger(folder)
	for _, row := range ledger {
		a.ledger[row.Trial] = append(a.ledger[row.Trial], row)
	}
	return a, err
}

// Raw is an attempt's rows. The table of a file that the attempt does not have is nil.
func (a Attempts) Raw(row *dataset.Trial) Raw {
	raw := RawOf(a.folder, row)
	raw.Certificates, raw.Ledger = a.certificates[row.Key], a.ledger[row.Key]
	return raw
}

// RawOf is the rows in an attempt's own files, in a campaign's folder. The attempt's row
// says which files it has; see dataset.Trial.SetFiles.
func RawOf(folder string, row *dataset.Trial) Raw {
	var raw Raw
	if row.Folder == "" {
		return raw
	}
	path := func(table string) string {
		return filepath.Join(folder, filepath.FromSlash(row.Folder), table+".parquet")
	}
	raw.Counters = dataset.ReadCounters(path(dataset.Counters.Name))
	if row.IORows != nil {
		raw.IO = ReadIO(path(dataset.IOs.Name))
	}
	if row.HistogramRows != nil {
		raw.Histograms = dataset.ReadHistograms(path(dataset.Histograms.Name))
	}
	if row.HeartbeatRows != nil {
		raw.Heartbeats = dataset.ReadHeartbeats(path(dataset.Heartbeats.Name))
	}
	if row.ClockRows != nil {
		raw.Clocks = dataset.ReadClocks(path(dataset.Clocks.Name))
	}
	if row.DomainRows != nil {
		raw.Domains = dataset.ReadDomains(path(dataset.Domains.Name))
	}
	return raw
}

// ReadIO reads those columns of an io.parquet that Judge needs.
func ReadIO(path string) dataset.Batches[dataset.IO] {
	return dataset.ReadIO(path, "ts_ns", "guest_ts_ns", "latency_ns", "op", "size_bytes", "error")
}
