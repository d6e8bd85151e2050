package activities

import (
	"math"
	"strconv"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/summary"
	"heliotrope/internal/campaign"
)

// Figures are the few numbers of an attempt that Temporal's UI shows beside its verdict, in
// ms; the dataset has all numbers. 0 means that there is none, or that it is not known.
type Figures struct {
	DowntimeMs    float64 `json:"downtime_ms,omitempty"` // as the hypervisor reports it
	BlackoutMs    float64 `json:"blackout_ms,omitempty"` // as the witnesses saw it
	MaxResponseMs float64 `json:"max_response_ms,omitempty"`
	RecoveryMs    float64 `json:"recovery_ms,omitempty"`
}

func figuresOf(row *dataset.Trial) Figures {
	return Figures{DowntimeMs: figure(row.DowntimeMs), BlackoutMs: figure(row.BlackoutMs),
		MaxResponseMs: figure(row.Response.Ms), RecoveryMs: figure(row.RecoveryMs)}
}

// figure leaves out numbers that JSON cannot hold: otherwise the attempt would be concluded
// again and again.
func figure(value *float64) float64 {
	if value == nil || math.IsInf(*value, 0) || math.IsNaN(*value) {
		return 0
	}
	return *value
}

// Median is a cell's medians in ms, formatted for people: a number, ∞, or – where nothing
// is known.
type Median struct {
	Cell        string `json:"cell"`
	Results     int    `json:"results"` // trials that are valid, or a failure that is a result
	Blackout    string `json:"blackout_ms"`
	MaxResponse string `json:"max_response_ms"`
	Recovery    string `json:"recovery_ms"`
}

// maxMedians is the largest number of cells whose medians Temporal's UI shows: its text
// must be short.
const maxMedians = 50

// mediansOf are the medians of the first cells of a summary.
func mediansOf(of *summary.Summary) []Median {
	var medians []Median
	for _, cell := range of.Cells[:min(maxMedians, len(of.Cells))] {
		name := cell.ID
		if cell.Direction == campaign.Return {
			name += ", back"
		}
		medians = append(medians, Median{Cell: name, Results: cell.BlackoutMs.N,
			Blackout: medianText(cell.BlackoutMs), MaxResponse: medianText(cell.MaxResponseMs), Recovery: medianText(cell.RecoveryMs)})
	}
	return medians
}

func medianText(s summary.Spread) string {
	switch {
	case s.N == 0:
		return "–"
	case math.IsInf(s.Median, 1):
		return "∞"
	}
	return strconv.FormatFloat(math.Round(s.Median), 'f', 0, 64)
}
