package dataset

import (
	"strconv"
	"strings"

	"heliotrope/internal/trial"
)

// The tables. A column that is added to one must be nullable or later(): otherwise older
// files can no longer be read. The tables of the witnesses, and what is known of an attempt
// besides its row, are in tables_witness.go.
var (
	// IOs is table io: one for each attempt of a trial.
	IOs = newLargeTable("io", "Each I/O of the load in the guest that completed, from warm-up to the end.",
		required("ts_ns", "ns", "completion, on the controller's time base, since 1970 UTC", func(r *IO) *int64 { return &r.TsNs }).delta(),
		required("guest_ts_ns", "ns", "the same on the guest's own clock, as fio logged it: resolution 1 ms", func(r *IO) *int64 { return &r.GuestTsNs }).delta(),
		required("latency_ns", "ns", "response time: from submission, in an open loop from when it was due, to completion; the guest's clock, corrected by its step for an I/O in flight over it", func(r *IO) *int64 { return &r.LatencyNs }).delta(),
		required("op", "", "read or write", func(r *IO) *string { return &r.Op }),
		required("size_bytes", "bytes", "length of the I/O", func(r *IO) *int32 { return &r.SizeBytes }),
		required("offset_bytes", "bytes", "where on the disk under test", func(r *IO) *int64 { return &r.OffsetBytes }).plain(),
		perhaps("line", "", "of the access specification, from 0; null where the engine does not tell, as the following two", func(r *IO) *Null[int32] { return &r.Line }),
		perhaps("worker", "", "of the load, from 0", func(r *IO) *Null[int32] { return &r.Worker }),
		perhaps("target", "", "part of the disk, from 0", func(r *IO) *Null[int32] { return &r.Target }),
		required("error", "", "errno with which it failed; 0: it did not", func(r *IO) *int32 { return &r.Error }).later(),
		perhaps("late_ns", "ns", "of latency_ns, how long it waited for a free slot after it was due; null in a closed loop", func(r *IO) *Null[int64] { return &r.LateNs }),
		required("reply", "", "to an I/O of the same transaction, in the other direction", func(r *IO) *bool { return &r.Reply }).later(),
	)

	// Histograms is table histograms: one for each attempt of a trial.
	Histograms = newTable("histograms", "The I/Os of the load that are not in table io, as the load's log had no room for each: those of one line, "+
		"worker and direction that completed in a time of 10 ms or a few. Without rows where table io has them all.",
		required("ts_ns", "ns", "its beginning, on the controller's time base, since 1970 UTC", func(r *Histogram) *int64 { return &r.TsNs }).delta(),
		required("length_ns", "ns", "its length", func(r *Histogram) *int64 { return &r.LengthNs }),
		required("worker", "", "of the load, from 0", func(r *Histogram) *int32 { return &r.Worker }),
		required("op", "", "read or write", func(r *Histogram) *string { return &r.Op }),
		required("line", "", "of the access specification, from 0", func(r *Histogram) *int32 { return &r.Line }),
		required("ios", "I/Os", "completed, the failed ones too", func(r *Histogram) *int64 { return &r.IOs }),
		required("errors", "I/Os", "that failed", func(r *Histogram) *int64 { return &r.Errors }),
		required("bytes", "bytes", "read or written; of an ingested histogram log its I/Os times the size in its line", func(r *Histogram) *int64 { return &r.Bytes }),
		required("max_ns", "ns", "longest response time, exact; of an ingested histogram log the upper end of its bucket", func(r *Histogram) *int64 { return &r.MaxNs }),
		required("oldest_in_flight_ns", "ns", "age of the oldest I/O in flight at its end; 0: none was", func(r *Histogram) *int64 { return &r.OldestInFlightNs }),
		required("counts", "", "I/Os by response time: bucket:I/Os, separated by blanks; 128 buckets for each power of two, see below", func(r *Histogram) *string { return &r.Counts }),
	)

	// Counters is table counters: one for each attempt of a trial.
	Counters = newTable("counters", "Readings of counters on the hosts: about one a second each, and ten a second of the guest's disk. Of a host on which nothing of ours runs, what its hypervisor has counted itself, for each of its own intervals.",
		required("ts_ns", "ns", "when it was read, on the controller's time base, since 1970 UTC", func(r *Counter) *int64 { return &r.TsNs }).delta(),
		required("host", "", "the host's name in the inventory", func(r *Counter) *string { return &r.Host }),
		required("device", "", "what is counted there, by its role: see the counters below", func(r *Counter) *string { return &r.Device }),
		required("name", "", "the counter: see the counters below", func(r *Counter) *string { return &r.Name }),
		required("value", "the counter's", "as read: most only grow, and start again at 0 when their device is made anew", func(r *Counter) *int64 { return &r.Value }).plain(),
	)

	// Events is table events: one for each attempt of a trial.
	Events = newTable("events", "What happened, and when.",
		required("ts_ns", "ns", "when, on the controller's time base, since 1970 UTC", func(r *Event) *int64 { return &r.TsNs }).delta(),
		required("source", "", "who tells: controller, a host of the inventory, guest, a vCenter", func(r *Event) *string { return &r.Source }),
		required("name", "", "what: phase (its beginning), disk-open-at-both-sites, migration-started, migration-progress (of the stream), migration-finished, disk-open-at-one-site, "+
			"migration-log (of the toolstack), paused, unpaused and when each was asked for, problem, told (by a vCenter), verdict; "+
			"in campaigns from before table teardowns, leftover (on a host); in campaigns from before table clocks, clock-offset (of source) and disk-open-at-site-b-only", func(r *Event) *string { return &r.Name }),
		required("detail", "", "more about it, for people", func(r *Event) *string { return &r.Detail }),
	)

	// Trials is table trials: one for the campaign.
	Trials = newTable("trials", "Each trial: its first attempt that is a result, otherwise its last. The rows of table attempts that are `counted`; and when the campaign has ended, a row of each trial that never ran, as its attempt 0: skipped, and not `counted`.", trialColumns()...)

	// Attempts is table attempts: one for the campaign.
	Attempts = newTable("attempts", "Each attempt of each trial. One that was invalid is tried again, and does not count.", trialColumns()...)

	// Phases is table phases: one for the campaign.
	Phases = newTable("phases", "The load's I/O in each measuring phase of each attempt, computed from table io. "+
		"An I/O is in the phase in which it completed.",
		attemptOf(func(r *Phase) *string { return &r.Trial }), trialOf(func(r *Phase) string { return r.Trial }),
		required("phase", "", "before, during (the migration) or after; whole: all of an ingested log, which has no phases; whole-read and whole-write: its reads and its writes, again", func(r *Phase) *string { return &r.Phase }),
		required("started_ts_ns", "ns", "controller's time base, since 1970 UTC", func(r *Phase) *int64 { return &r.StartedTsNs }),
		required("ended_ts_ns", "ns", "the moment after its last", func(r *Phase) *int64 { return &r.EndedTsNs }),
		required("seconds", "s", "length", func(r *Phase) *float64 { return &r.Seconds }),
		optional("ios", "I/Os", "completed; null when the load's log is not known, as the following", func(r *Phase) **int64 { return &r.IOs }),
		optional("reads", "I/Os", "completed reads", func(r *Phase) **int64 { return &r.Reads }),
		optional("writes", "I/Os", "completed writes", func(r *Phase) **int64 { return &r.Writes }),
		optional("bytes", "bytes", "read and written", func(r *Phase) **int64 { return &r.Bytes }),
		optional("iops", "1/s", "ios / seconds", func(r *Phase) **float64 { return &r.IOPS }),
		optional("mb_per_s", "10^6 bytes/s", "bytes / seconds", func(r *Phase) **float64 { return &r.MBPerS }),
		optional("mean_ms", "ms", "mean response time; null without I/Os, as the following", func(r *Phase) **float64 { return &r.MeanMs }),
		optional("p50_ms", "ms", "median response time; percentiles are by nearest rank, within 0.1 %; of I/Os that are in table histograms within 0.4 %", func(r *Phase) **float64 { return &r.P50Ms }),
		optional("p99_ms", "ms", "99th percentile of the response times", func(r *Phase) **float64 { return &r.P99Ms }),
		optional("p99_9_ms", "ms", "99.9th percentile of the response times", func(r *Phase) **float64 { return &r.P999Ms }),
		optional("max_ms", "ms", "longest response time", func(r *Phase) **float64 { return &r.MaxMs }),
	)
)

// attemptOf is the column with the key of the attempt that a row belongs to.
func attemptOf[R any](key func(*R) *string) column[R] {
	return required("attempt", "", "its key, unique in the campaign: the trial's number with leading zeros, a dot, the attempt's number, as 00007.1", key).renamed("trial")
}

// trialOf is the column with the trial's number, which is part of the attempt's key.
func trialOf[R any](key func(*R) string) column[R] {
	return derived("trial", "number of the trial in the order of the plan, from 1", false, func(row *R, _ bool) (int32, bool) {
		number, _, _ := strings.Cut(key(row), ".")
		sequence, _ := strconv.ParseInt(number, 10, 32) // see trial.Ref's Key
		return int32(sequence), true
	})
}

// trialColumns are the columns of tables trials and attempts: what was run, its outcome, and what was
// measured.
func trialColumns() []column[Trial] {
	columns := []column[Trial]{
		attemptOf(func(r *Trial) *string { return &r.Key }),
		required("trial", "", "number of the trial in the order of the plan, from 1", func(r *Trial) *int32 { return &r.Sequence }).renamed("sequence"),
		required("block", "", "repetition, from 1", func(r *Trial) *int32 { return &r.Block }),
		required("attempt_number", "", "of the trial, from 1", func(r *Trial) *int32 { return &r.Attempt }).renamed("attempt"),
		required("counted", "", "the attempt of its trial that counts: the first that is a result, otherwise the last", func(r *Trial) *bool { return &r.Counted }),
		required("cell_id", "", "combination of the factors", func(r *Trial) *string { return &r.CellID }),
		required("testbed_kind", "", "emulated, hardware, vcenter-simulator (which involves no ESXi host), simulated (a model, and no measurement), or ingested (a log that somebody else wrote: nobody watched how)", func(r *Trial) *string { return &r.TestbedKind }),
		required("lane", "", "name of the testbed", func(r *Trial) *string { return &r.Lane }),
		required("hypervisor", "", "factor", func(r *Trial) *string { return &r.Hypervisor }),
		required("storage", "", "factor: iscsi, nfs, drbd, mirror, local", func(r *Trial) *string { return &r.Storage }),
		optional("drbd_protocol", "", "factor: A, B, C; null unless storage is drbd", func(r *Trial) **string { return &r.DRBDProtocol }),
		optional("mirror_copy", "", "factor: full, synchronous, incremental; null unless storage is mirror", func(r *Trial) **string { return &r.MirrorCopy }),
		required("wan", "", "factor: the WAN's profile", func(r *Trial) *string { return &r.WAN }),
		required("rtt_ms", "ms", "round trip of the profile", func(r *Trial) *float64 { return &r.RTTMs }),
		optional("measured_rtt_min_ms", "ms", "shortest round trip measured between the sites, with the profile in place", func(r *Trial) **float64 { return &r.MeasuredMinMs }),
		optional("measured_rtt_mean_ms", "ms", "mean of the same", func(r *Trial) **float64 { return &r.MeasuredMeanMs }),
		required("access", "", "factor: name of the access specification", func(r *Trial) *string { return &r.Access }),
		optional("guest_memory_mib", "MiB", "factor: memory of the guest", func(r *Trial) **int32 { return &r.GuestMemoryMiB }),
		optional("guest_vcpus", "", "factor: virtual processors of the guest; null in ingested data, and in a dataset of a version that knew only guests of one", func(r *Trial) **int32 { return &r.GuestVCPUs }),
		optional("migration", "", "factor: precopy, postcopy; null without a migration, as the following", func(r *Trial) **string { return &r.Migration }),
		optional("auto_converge", "", "factor: the hypervisor slows the guest down when it dirties memory too fast", func(r *Trial) **bool { return &r.AutoConverge }),
		optional("bandwidth_mib_per_s", "MiB/s", "factor: most that the migration may send; null: no limit", func(r *Trial) **int32 { return &r.BandwidthMiBPerS }),
		optional("max_downtime_ms", "ms", "factor: how long a stop the hypervisor may plan; null: its own", func(r *Trial) **int32 { return &r.MaxDowntimeMs }),
		optional("precondition", "", "factor: fill, none: what was done to the disk before it was used; null when it is not known, as the following two", func(r *Trial) **string { return &r.Precondition }),
		optional("precondition_bytes", "bytes", "that were filled, of one copy", func(r *Trial) **int64 { return &r.PreconditionBytes }),
		optional("precondition_s", "s", "that it took", func(r *Trial) **float64 { return &r.PreconditionS }),
		optional("engine", "", "of the load: heliotrope, fio; iometer of ingested results; null when it is not known", func(r *Trial) **string { return &r.Engine }),
		optional("io_method", "", "how the engine did its I/Os: uring, threads; null when it does not tell, as the following", func(r *Trial) **string { return &r.IOMethod }),
		optional("io_detail", "", "all: each I/O is in table io; histogram: some are in table histograms only; summary: no I/O is in either, as somebody told only what they were together (ingested results)", func(r *Trial) **string { return &r.IODetail }),
		optional("io_errors", "I/Os", "that failed", func(r *Trial) **int64 { return &r.IOErrors }),
		optional("io_violations", "", "sectors read that are not what verify wants", func(r *Trial) **int64 { return &r.IOViolations }),
		optional("io_pending", "I/Os", "in flight when the load ended: they never completed", func(r *Trial) **int64 { return &r.IOPending }),
		optional("pending_read_submitted_ts_ns", "ns", "submission of the oldest read of them, on the controller's time base; null when none was a read", func(r *Trial) **int64 { return &r.PendingReadTsNs }),
		optional("pending_write_submitted_ts_ns", "ns", "likewise of the oldest write", func(r *Trial) **int64 { return &r.PendingWriteTsNs }),
		optional("first_errno", "", "of the first I/O that failed; null when none did", func(r *Trial) **int32 { return &r.FirstErrno }),
		optional("offered_short", "I/Os", "of an open loop that were never submitted, as the guest's clock stood still when they were due: response times are from below then; null in a closed loop", func(r *Trial) **int64 { return &r.OfferedShort }),
		required("seed", "", "of the trial's random numbers", func(r *Trial) *uint64 { return &r.Seed }),
		required("verdict", "", "valid; target-failed (a result); invalid (the measurement cannot be trusted); skipped", func(r *Trial) *string { return &r.Verdict }),
		required("reason", "", "of the verdict; empty when valid", func(r *Trial) *string { return &r.Reason }),
		required("started_ts_ns", "ns", "controller's time base, since 1970 UTC", func(r *Trial) *int64 { return &r.StartedTsNs }),
		required("ended_ts_ns", "ns", "controller's time base, since 1970 UTC", func(r *Trial) *int64 { return &r.EndedTsNs }),
	}
	for i, phase := range trial.Phases {
		columns = append(columns, optional(strings.ReplaceAll(string(phase), "-", "_")+"_ts_ns", "ns",
			"where phase "+string(phase)+" began; null when it did not", func(r *Trial) **int64 { return &r.PhaseTsNs[i] }))
	}
	columns = append(append(columns, migrationColumns()...), judgedColumns()...)
	for _, of := range []struct {
		prefix, ios string
		response    func(*Trial) *Response
	}{{"", "I/O", func(r *Trial) *Response { return &r.Response }}, {"read_", "read", func(r *Trial) *Response { return &r.ReadResponse }},
		{"write_", "write", func(r *Trial) *Response { return &r.WriteResponse }}} {
		columns = append(columns,
			optional(of.prefix+"max_response_ms", "ms", "longest response time of any "+of.ios+" from the storage's preparation to the end of phase after, those in flight at its end too; null when it is not known, as the following two",
				func(r *Trial) **float64 { return &of.response(r).Ms }),
			optional(of.prefix+"max_response_uncertainty_ms", "ms", "of it, both ways", func(r *Trial) **float64 { return &of.response(r).UncertaintyMs }),
			optional(of.prefix+"max_response_in_flight", "", "such an I/O had not completed when the load ended: the longest took that long at least", func(r *Trial) **bool { return &of.response(r).InFlight }))
	}
	return append(columns,
		optional("overhead_s", "s", "time outside of warm-up, before, migrate and after, without the teardown", func(r *Trial) **float64 { return &r.OverheadS }),
		optional("io_rows", "rows", "in the attempt's io.parquet; null when the load's log is not known, and there is no such file", func(r *Trial) **int64 { return &r.IORows }),
		required("counter_rows", "rows", "in the attempt's counters.parquet", func(r *Trial) *int64 { return &r.CounterRows }),
		required("event_rows", "rows", "in the attempt's events.parquet", func(r *Trial) *int64 { return &r.EventRows }),
		optional("heartbeat_rows", "rows", "in the attempt's heartbeats.parquet; null when it has none, as the following", func(r *Trial) **int64 { return &r.HeartbeatRows }),
		optional("clock_rows", "rows", "in the attempt's clocks.parquet", func(r *Trial) **int64 { return &r.ClockRows }),
		optional("domain_rows", "rows", "in the attempt's domains.parquet", func(r *Trial) **int64 { return &r.DomainRows }),
		optional("histogram_rows", "rows", "in the attempt's histograms.parquet", func(r *Trial) **int64 { return &r.HistogramRows }),
		required("binary_version", "", "of the program that ran the attempt", func(r *Trial) *string { return &r.BinaryVersion }),
		required("spec_sha256", "", "of the campaign file, in hex", func(r *Trial) *string { return &r.SpecSHA256 }),
		required("hosts_json", "", "the hosts with their kernels and hypervisors, as JSON", func(r *Trial) *string { return &r.HostsJSON }),
		required("versions_json", "", "versions of DRBD, fio, ..., as JSON", func(r *Trial) *string { return &r.VersionsJSON }),
		optional("leftovers", "", "things of ours still on the hosts after the teardown, of table teardowns; null when they could not be compared", func(r *Trial) **int32 { return &r.Leftovers }),
		required("folder", "", "of the attempt's files, in the campaign's folder; empty when it left none", func(r *Trial) *string { return &r.Folder }),
	)
}

// migrationColumns are the columns with what was measured of the migration.
func migrationColumns() []column[Trial] {
	return []column[Trial]{
		optional("migration_started_ts_ns", "ns", "controller's time base, since 1970 UTC", func(r *Trial) **int64 { return &r.MigrationStartedTsNs }),
		optional("migration_finished_ts_ns", "ns", "controller's time base, since 1970 UTC", func(r *Trial) **int64 { return &r.MigrationFinishedTsNs }),
		optional("total_migration_ms", "ms", "from the moment that the toolstack was told to migrate, which makes the target ready first, until the source had let go; of a pause, from command to command", func(r *Trial) **float64 { return &r.TotalMigrationMs }),
		optional("migration_stream_bytes", "bytes", "of the guest's memory and state, sent to the other site", func(r *Trial) **int64 { return &r.MigrationStreamBytes }),
		optional("downtime_ms", "ms", "how long the guest ran nowhere, as the hypervisor itself tells it, to compare blackout_ms with; KVM: libvirt's downtime_net, which each host counts by its own clock, without the time between the two; null when it tells none, as the following", func(r *Trial) **float64 { return &r.DowntimeMs }),
		optional("rounds", "rounds", "over the guest's memory, as the hypervisor tells it", func(r *Trial) **int64 { return &r.Rounds }),
		optional("disk_bytes", "bytes", "of a private disk, sent to the other site by the hypervisor", func(r *Trial) **int64 { return &r.DiskBytes }),
		optional("prepare_ms", "ms", "of total_migration_ms: the target made ready", func(r *Trial) **float64 { return &r.PrepareMs }),
		optional("disk_copy_ms", "ms", "of total_migration_ms: a private disk was copied, until the copy had all of it", func(r *Trial) **float64 { return &r.DiskCopyMs }),
		optional("disk_converge_ms", "ms", "of total_migration_ms: the copy kept up with the disk while the memory was sent", func(r *Trial) **float64 { return &r.DiskConvergeMs }),
		optional("switch_ms", "ms", "of total_migration_ms: from the guest's stop at the source until it ran at the target, to about 0.1 s", func(r *Trial) **float64 { return &r.SwitchMs }),
		optional("storage_prepare_ts_ns", "ns", "when the storage began to make the disk ready for the migration: what is found from the migration on begins here", func(r *Trial) **int64 { return &r.StoragePrepareTsNs }),
		optional("storage_prepare_ms", "ms", "how long the storage took to make the disk ready for the migration", func(r *Trial) **float64 { return &r.StoragePrepareMs }),
		optional("storage_finish_ms", "ms", "how long the storage took to let the source's side go after it", func(r *Trial) **float64 { return &r.StorageFinishMs }),
		optional("longest_gap_ms", "ms", "longest interval without a completed I/O, whatever its cause, from the migration's start to the end of phase after, on the controller's time base", func(r *Trial) **float64 { return &r.LongestGapMs }),
		optional("longest_gap_uncertainty_ms", "ms", "of longest_gap_ms, both ways: from the clocks and fio's resolution", func(r *Trial) **float64 { return &r.LongestGapUncertaintyMs }),
		optional("gap_guest_clock_ms", "ms", "the longest gap by the guest's own clock, which may stand still while the guest is paused", func(r *Trial) **float64 { return &r.GapGuestClockMs }),
		optional("guest_clock_before_ns", "ns", "the guest's clock minus the controller's, before the migration", func(r *Trial) **int64 { return &r.GuestClockBeforeNs }),
		optional("guest_clock_before_uncertainty_ns", "ns", "of guest_clock_before_ns, both ways", func(r *Trial) **int64 { return &r.GuestClockBeforeUncertNs }),
		optional("guest_clock_after_ns", "ns", "the guest's clock minus the controller's, after the migration", func(r *Trial) **int64 { return &r.GuestClockAfterNs }),
		optional("guest_clock_after_uncertainty_ns", "ns", "of guest_clock_after_ns, both ways", func(r *Trial) **int64 { return &r.GuestClockAfterUncertNs }),
		optional("wan_bytes", "bytes", "over the WAN during phase migrate, both directions: what table traffic has of class interface", func(r *Trial) **int64 { return &r.WANBytes }),
		optional("out_of_sync_bytes", "bytes", "by which the replicas differed after the trial; null where there are none", func(r *Trial) **int64 { return &r.OutOfSyncBytes }),
	}
}
