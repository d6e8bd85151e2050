package workers

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// scrape is what Prometheus would get.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, answer.Code)
	return answer.Body.String()
}

func TestMetrics(t *testing.T) {
	m, err := NewMetrics("1.2", zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	require.Contains(t, scrape(t, m), `heliotrope_build_info{version="1.2"} 1`)

	m.SDK().WithTags(map[string]string{"namespace": "unit"}).Counter("temporal_request").Inc(3)
	m.SDK().Timer("temporal_request_latency").Record(30 * time.Millisecond)
	now := time.Now()
	m.Set(Observation{At: now, DatabaseBytes: 5000, Campaigns: []ObservedCampaign{
		{Name: "thesis", Started: now.Add(-48 * time.Hour), LastValid: now.Add(-2 * time.Hour), DatasetBytes: 7000, Status: &workflows.CampaignStatus{
			Lanes: []workflows.LaneReport{{State: workflows.LaneRunning}, {State: workflows.LaneRunning}, {State: workflows.LaneQuarantined}},
			Progress: workflows.Progress{Total: 100, Retried: 2, Verdicts: map[trial.Verdict]int{trial.Valid: 40, trial.TargetFailed: 1},
				Causes: map[cause.Code]int{"migration-failed": 1}}}},
		{Name: "silent", Started: now.Add(-time.Hour)}, // it does not answer
	}})
	text := scrape(t, m)
	for _, line := range []string{
		`temporal_request_total{namespace="unit"} 3`,
		`temporal_request_latency_seconds_bucket{le="0.1"} 1`,
		`heliotrope_database_size_bytes 5000`,
		`heliotrope_dataset_size_bytes{campaign="thesis"} 7000`,
		`heliotrope_trials_planned{campaign="thesis"} 100`,
		`heliotrope_attempts_repeated{campaign="thesis"} 2`,
		`heliotrope_trials{campaign="thesis",verdict="valid"} 40`,
		`heliotrope_trials{campaign="thesis",verdict="target-failed"} 1`,
		`heliotrope_trial_causes{campaign="thesis",cause="migration-failed"} 1`,
		`heliotrope_lanes{campaign="thesis",state="running"} 2`,
		`heliotrope_lanes{campaign="thesis",state="quarantined"} 1`,
		`heliotrope_last_valid_trial_age_seconds{campaign="thesis"} 72`, // 7200.…
		`heliotrope_last_valid_trial_age_seconds{campaign="silent"} 36`,
		`heliotrope_observed_age_seconds `,
	} {
		require.Contains(t, text, line)
	}
	require.NotContains(t, text, `heliotrope_trials_planned{campaign="silent"`)

	// A campaign that has ended is no longer reported.
	m.Set(Observation{At: now})
	require.NotContains(t, scrape(t, m), "thesis")
}
