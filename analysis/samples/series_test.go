package samples_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/samples"
)

// log writes an ingested log, and reads it as a series. It is 12 s long, and begins at 100
// s.
func log(t *testing.T, ios []dataset.IO, histograms ...dataset.Histogram) samples.Series {
	t.Helper()
	folder := t.TempDir()
	row := &dataset.Trial{Key: "00001.1", Folder: "ingested/attempt=00001.1"}
	written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, IO: dataset.Rows(ios), Histograms: dataset.Rows(histograms),
		Provenance: dataset.Provenance{dataset.KeyCampaign: "c", dataset.KeyTestbedKind: "ingested"}})
	require.NoError(t, err)
	row.SetFiles(written)
	count := int64(len(ios))
	for _, h := range histograms {
		count += h.IOs
	}
	series, err := samples.Whole(t.Context(), folder, row, dataset.Phase{StartedTsNs: 100 * second, EndedTsNs: 112 * second, IOs: &count})
	require.NoError(t, err)
	return series
}

// TestWhole: single I/Os are counted in the bin in which they completed, and failed ones in none.
func TestWhole(t *testing.T) {
	var ios []dataset.IO
	for i := range int64(239) {
		ios = append(ios, io(100*second+i*second/20, float64(i%3+1), 0)) // 20 a second, up to 111.9 s
	}
	ios = append(ios, io(111*second, 999, 5)) // failed
	s := log(t, ios)
	require.Len(t, s.Ops, 1)
	assert.Equal(t, 12, s.Bins)
	assert.InDelta(t, 1, s.BinS, 1e-9)
	op := s.Ops[0]
	assert.Equal(t, dataset.OpRead, op.Op)
	assert.Equal(t, int64(239), op.All.Count)
	assert.InDelta(t, 20, op.IOPS[0], 1e-6)
	assert.InDelta(t, 19, op.IOPS[11], 1e-6)
	assert.InDelta(t, 20*512e-6, op.MBPerS[3], 1e-9)
	assert.InDelta(t, 3, op.MaxMs[11], 1e-9)
	assert.InEpsilon(t, 2, op.MedianMs[5], 0.004)
}

// TestWholeHistograms: a histogram's I/Os are shared between bins in proportion to the
// overlap; bins are at least twice as long as the longest histogram; a gap has no response
// time.
func TestWholeHistograms(t *testing.T) {
	of := func(fromS, lengthS float64, ios int64) dataset.Histogram {
		return dataset.Histogram{TsNs: int64(fromS * 1e9), LengthNs: int64(lengthS * 1e9), Op: dataset.OpWrite, IOs: ios, Bytes: ios * 1e6, MaxNs: 7e6, Counts: "200:" + fmt.Sprint(ios)}
	}
	s := log(t, nil, of(100, 1, 90), of(102.5, 1, 30), of(110, 2, 10))
	require.Len(t, s.Ops, 1)
	require.Equal(t, 3, s.Bins)
	op := s.Ops[0]
	assert.InDeltaSlice(t, []float64{30, 0, 2.5}, op.IOPS, 1e-6)
	assert.InDeltaSlice(t, []float64{30, 0, 2.5}, op.MBPerS, 1e-6)
	assert.True(t, math.IsNaN(op.MaxMs[1]))
	assert.InDelta(t, 7, op.MaxMs[2], 1e-9)
	s = log(t, nil, of(103, 2, 100))
	assert.InDeltaSlice(t, []float64{12.5, 12.5, 0}, s.Ops[0].IOPS, 1e-6, "half of it in each")
	assert.Zero(t, log(t, nil, of(100, 12, 500)).Bins, "nothing is known over time")
}
