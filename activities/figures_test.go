package activities

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/summary"
	"heliotrope/internal/campaign"
)

func TestFigures(t *testing.T) {
	row := &dataset.Trial{DowntimeMs: new(111.0), BlackoutMs: new(math.Inf(1)), RecoveryMs: new(900.5)}
	row.Response.Ms = new(222.0)
	require.Equal(t, Figures{DowntimeMs: 111, MaxResponseMs: 222, RecoveryMs: 900.5}, figuresOf(row))
}

func TestMedians(t *testing.T) {
	cells := make([]summary.Cell, maxMedians+1)
	cells[0] = summary.Cell{ID: "a-cell", Direction: campaign.Return, BlackoutMs: summary.Spread{N: 3, Median: 111.4},
		MaxResponseMs: summary.Spread{N: 3, Infinite: 2, Median: math.Inf(1)}}
	medians := mediansOf(&summary.Summary{Cells: cells})
	require.Len(t, medians, maxMedians)
	require.Equal(t, Median{Cell: "a-cell, back", Results: 3, Blackout: "111", MaxResponse: "∞", Recovery: "–"}, medians[0])
}
