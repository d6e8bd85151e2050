package workers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
)

// Metrics are the controller's figures in Prometheus' format: those of Temporal's SDK
// (temporal_…), and ours (heliotrope_…), which describe the last observation.
type Metrics struct {
	provider *sdkmetric.MeterProvider
	registry *prometheus.Registry
	sdk      client.MetricsHandler
	observed atomic.Pointer[Observation]
}

// secondsBounds are the upper bounds of the SDK's histograms, in seconds: they range from a
// request to the server to an activity that lasts as long as a trial.
var secondsBounds = []float64{0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1800, 7200}

// NewMetrics makes the metrics; version is this program's version. The caller calls Close
// in the end.
func NewMetrics(version string, log zerolog.Logger) (*Metrics, error) {
	m := &Metrics{registry: prometheus.NewRegistry()}
	reader, err := exporter.New(exporter.WithRegisterer(m.registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	histograms := sdkmetric.NewView(sdkmetric.Instrument{Kind: sdkmetric.InstrumentKindHistogram},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: secondsBounds}})
	m.provider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithView(histograms))
	m.sdk = opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: m.provider.Meter("temporal-sdk-go"), UseMonotonicCounters: true,
		OnError: func(err error) { log.Warn().Err(err).Msg("a metric of Temporal's SDK is left out") },
	})
	return m, m.register(m.provider.Meter("heliotrope"), version)
}

// SDK is the handler that clients and workers report their figures to.
func (m *Metrics) SDK() client.MetricsHandler { return m.sdk }

// Handler answers with all figures.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Set sets the last observation.
func (m *Metrics) Set(observed Observation) { m.observed.Store(&observed) }

// Close ends the metrics.
func (m *Metrics) Close() error { return m.provider.Shutdown(context.Background()) }

// gauge describes one of our figures. unit is By for bytes and s for seconds; in Prometheus
// the figure's name ends with the unit.
type gauge struct{ name, unit, about string }

// Our own figures.
var (
	buildInfo     = gauge{"heliotrope_build_info", "", "1, with the version of the controller."}
	observedAge   = gauge{"heliotrope_observed_age", "s", "How old the heliotrope_ figures are."}
	trials        = gauge{"heliotrope_trials", "", "Trials of a running campaign that have ended, by verdict."}
	trialCauses   = gauge{"heliotrope_trial_causes", "", "Those of them that are not valid, by cause."}
	trialsPlanned = gauge{"heliotrope_trials_planned", "", "Trials of a running campaign, done or not."}
	trialsRetried = gauge{"heliotrope_attempts_repeated", "", "Attempts of a running campaign's trials beyond the first."}
	lanes         = gauge{"heliotrope_lanes", "", "Lanes of a running campaign by state."}
	lastValidAge  = gauge{"heliotrope_last_valid_trial_age", "s", "Since the last valid trial of a running campaign ended, or since it began where there is none."}
	datasetBytes  = gauge{"heliotrope_dataset_size", "By", "Size of a running campaign's dataset."}
	databaseBytes = gauge{"heliotrope_database_size", "By", "Size of the embedded Temporal server's database."}
)

// register has the figures computed from the last observation at each scrape.
func (m *Metrics) register(meter metric.Meter, version string) error {
	var errs []error
	all := map[gauge]metric.Float64ObservableGauge{}
	var instruments []metric.Observable
	for _, g := range []gauge{buildInfo, observedAge, trials, trialCauses, trialsPlanned, trialsRetried, lanes, lastValidAge, datasetBytes, databaseBytes} {
		made, err := meter.Float64ObservableGauge(g.name, metric.WithUnit(g.unit), metric.WithDescription(g.about))
		errs = append(errs, err)
		all[g] = made
		instruments = append(instruments, made)
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		tell := func(g gauge, value float64, labels ...attribute.KeyValue) {
			o.ObserveFloat64(all[g], value, metric.WithAttributes(labels...))
		}
		tell(buildInfo, 1, attribute.String("version", version))
		if observed := m.observed.Load(); observed != nil {
			observed.tell(tell)
		}
		return nil
	}, instruments...)
	return errors.Join(append(errs, err)...)
}

// tell calls tell for each figure of the observation.
func (o *Observation) tell(tell func(gauge, float64, ...attribute.KeyValue)) {
	tell(observedAge, time.Since(o.At).Seconds())
	if o.DatabaseBytes > 0 {
		tell(databaseBytes, float64(o.DatabaseBytes))
	}
	for _, c := range o.Campaigns {
		campaign := attribute.String("campaign", c.Name)
		tell(lastValidAge, time.Since(c.lastSign()).Seconds(), campaign)
		if c.DatasetBytes > 0 {
			tell(datasetBytes, float64(c.DatasetBytes), campaign)
		}
		if c.Status == nil {
			continue
		}
		progress := c.Status.Progress
		tell(trialsPlanned, float64(progress.Total), campaign)
		tell(trialsRetried, float64(progress.Retried), campaign)
		for verdict, number := range progress.Verdicts {
			tell(trials, float64(number), campaign, attribute.String("verdict", string(verdict)))
		}
		for code, number := range progress.Causes {
			tell(trialCauses, float64(number), campaign, attribute.String("cause", string(code)))
		}
		for state, number := range c.lanes() {
			tell(lanes, float64(number), campaign, attribute.String("state", state))
		}
	}
}
