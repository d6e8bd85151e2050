package dataset

// The tables of the witnesses, and of the evidence that they can be believed.
var (
	// Heartbeats is table heartbeats: one for each attempt of a trial.
	Heartbeats = newLargeTable("heartbeats", "Each datagram of the guest that arrived at site A, in the order of arrival: also those that came twice or late.",
		required("ts_ns", "ns", "arrival, on the controller's time base, since 1970 UTC", func(r *Heartbeat) *int64 { return &r.TsNs }).delta(),
		required("sequence", "", "number of the datagram, from 1, without holes when it was sent", func(r *Heartbeat) *int64 { return &r.Sequence }).delta(),
		required("sent_guest_ns", "ns", "when it was sent, on the guest's own clock", func(r *Heartbeat) *int64 { return &r.SentGuestNs }).delta(),
		required("sent_ts_ns", "ns", "the same on the controller's time base", func(r *Heartbeat) *int64 { return &r.SentTsNs }).delta(),
		required("acked", "", "newest record of the ledger that the disk had acknowledged by then; 0 is none", func(r *Heartbeat) *int64 { return &r.Acked }).delta(),
		perhaps("oldest_submitted_ts_ns", "ns", "submission of the oldest I/O of the load in flight by then, on the controller's time base; null when none was, or the guest did not tell", func(r *Heartbeat) *Null[int64] { return &r.OldestSubmittedTsNs }).plain(),
		perhaps("completed_ios", "I/Os", "of the load that had completed by then; null when the guest did not tell", func(r *Heartbeat) *Null[int64] { return &r.CompletedIOs }).plain(),
	)

	// Clocks is table clocks: one for each attempt of a trial.
	Clocks = newTable("clocks", "Readings of the machines' clocks.",
		required("ts_ns", "ns", "when it was read, on the controller's time base, since 1970 UTC", func(r *Clock) *int64 { return &r.TsNs }).delta(),
		required("machine", "", "whose clock: a host of the inventory, guest, or the vCenter that counters are by the clock of", func(r *Clock) *string { return &r.Machine }),
		required("reference", "", "who asked: controller, or a host", func(r *Clock) *string { return &r.Reference }),
		required("ahead_ns", "ns", "the machine's clock minus the controller's", func(r *Clock) *int64 { return &r.AheadNs }).delta(),
		required("uncertainty_ns", "ns", "of ahead_ns, both ways, a bound: half of the exchange's round trip, all of it where a vCenter was asked for a host's, and the reference's own", func(r *Clock) *int64 { return &r.UncertaintyNs }).delta(),
	)

	// Domains is table domains: one for each attempt of a trial.
	Domains = newTable("domains", "States of the domains on the hypervisors' hosts, as those saw them: each change, and a line a second that proves that somebody looked. "+
		"Of a host on which nothing of ours runs, what its hypervisor has written down of the guest's stops, and a line that says of which time.",
		required("ts_ns", "ns", "of the look that saw it, on the controller's time base, since 1970 UTC", func(r *Domain) *int64 { return &r.TsNs }).delta(),
		required("host", "", "the host's name in the inventory", func(r *Domain) *string { return &r.Host }),
		required("id", "", "of the domain; 0 in a watch and in a record", func(r *Domain) *int32 { return &r.ID }),
		required("state", "", "running, paused, suspended, shutdown, crashed, gone; watch: no change, somebody still looks; record: the host's own record up to here tells all stops", func(r *Domain) *string { return &r.State }),
		required("spacing_ns", "ns", "since the look before, which saw another state; in a watch, the longest between looks since the last watch; in a record, what it covers, and in what it tells, the resolution of its times", func(r *Domain) *int64 { return &r.SpacingNs }).delta(),
	)

	// Certificates is table certificates: one for the campaign.
	Certificates = newTable("certificates", "What the WAN was measured to be, in each direction, before and after each attempt, while nothing else used it.",
		attemptOf(func(r *Certificate) *string { return &r.Trial }), trialOf(func(r *Certificate) string { return r.Trial }),
		required("moment", "", "before or after the attempt's measuring phases", func(r *Certificate) *string { return &r.Moment }),
		required("direction", "", "a-to-b: as site A measured it; b-to-a", func(r *Certificate) *string { return &r.Direction }),
		required("ts_ns", "ns", "its end, on the controller's time base, since 1970 UTC", func(r *Certificate) *int64 { return &r.TsNs }),
		required("profile", "", "the WAN's profile", func(r *Certificate) *string { return &r.Profile }),
		required("want_rtt_ms", "ms", "round trip of the profile", func(r *Certificate) *float64 { return &r.WantRTTMs }),
		optional("rtt_min_ms", "ms", "shortest round trip; null when nothing came back, as the following", func(r *Certificate) **float64 { return &r.RTTMinMs }),
		optional("rtt_median_ms", "ms", "median of the round trips", func(r *Certificate) **float64 { return &r.RTTMedianMs }),
		optional("rtt_max_ms", "ms", "longest round trip", func(r *Certificate) **float64 { return &r.RTTMaxMs }),
		required("pings", "", "that were sent", func(r *Certificate) *int32 { return &r.Pings }),
		required("received", "", "pings that came back", func(r *Certificate) *int32 { return &r.Received }),
		required("loss_percent", "percent", "of round trips that did not come back", func(r *Certificate) *float64 { return &r.LossPercent }),
		required("want_loss_percent", "percent", "that the profile loses of round trips: 1 - (1 - p)^2", func(r *Certificate) *float64 { return &r.WantLossPercent }),
		required("throughput_mbit", "10^6 bit/s", "of one TCP connection", func(r *Certificate) *float64 { return &r.ThroughputMbit }),
		required("want_rate_mbit", "10^6 bit/s", "of the profile; 0 is unlimited", func(r *Certificate) *float64 { return &r.WantRateMbit }),
		required("packets", "packets", "that netem let through while it was measured; 0 when nothing is shaped, as the following", func(r *Certificate) *int64 { return &r.Packets }),
		required("drops", "packets", "that netem dropped meanwhile", func(r *Certificate) *int64 { return &r.Drops }),
		required("limit_packets", "packets", "limit of netem's queue; 0 when nothing is shaped", func(r *Certificate) *int32 { return &r.LimitPackets }),
		required("want_limit_packets", "packets", "limit with which netem never drops by itself", func(r *Certificate) *int32 { return &r.WantLimitPackets }),
		optional("bridge_rtt_ms", "ms", "round trip from site A to the host that bridges the sites: what does not cross the WAN; null when that has no address", func(r *Certificate) **float64 { return &r.BridgeRTTMs }),
		required("shaping", "", "what is wrong with the shaping on that host; empty when nothing is", func(r *Certificate) *string { return &r.Shaping }),
		required("problem", "", "what is outside of its tolerance; empty when nothing is", func(r *Certificate) *string { return &r.Problem }),
		optional("ping_copies", "", "pings that were answered more than once; null: not counted", func(r *Certificate) **int32 { return &r.PingCopies }),
		optional("probe_sent", "", "numbered UDP datagrams of 1,242 bytes on the wire, sent this way at 95 % of the rate, or at 20 Mbit/s where there is none; null when none were sent, as the following", func(r *Certificate) **int32 { return &r.Probe.Sent }),
		optional("probe_received", "", "different ones of them that came", func(r *Certificate) **int32 { return &r.Probe.Received }),
		optional("probe_copies", "", "datagrams that came again, with those beyond the rate", func(r *Certificate) **int32 { return &r.Probe.Copies }),
		optional("probe_reordered", "", "that came after a later one", func(r *Certificate) **int32 { return &r.Probe.Reordered }),
		optional("probe_sent_mbit", "10^6 bit/s", "at which those that came were really sent, on the wire", func(r *Certificate) **float64 { return &r.Probe.SentMbit }),
		optional("probe_received_mbit", "10^6 bit/s", "at which they came", func(r *Certificate) **float64 { return &r.Probe.ReceivedMbit }),
		optional("probe_s", "s", "from the first arrival to the last", func(r *Certificate) **float64 { return &r.Probe.Seconds }),
		optional("probe_spread_ms", "ms", "99.9 % of them took at most so much longer than the one with the shortest way", func(r *Certificate) **float64 { return &r.Probe.SpreadMs }),
		optional("probe_spread_90_ms", "ms", "the same of 90 %, which is what is judged", func(r *Certificate) **float64 { return &r.Probe.Spread90Ms }),
		optional("detectable_loss_percent", "percent", "loss of which a datagram would have been missed with a probability of 95 %", func(r *Certificate) **float64 { return &r.Probe.DetectableLoss }),
		optional("above_sent_mbit", "10^6 bit/s", "at which datagrams were sent that were to be sent at 110 % of the rate; null without a rate, as the following", func(r *Certificate) **float64 { return &r.Probe.AboveSentMbit }),
		optional("above_received_mbit", "10^6 bit/s", "at which they came", func(r *Certificate) **float64 { return &r.Probe.AboveReceivedMbit }),
		optional("above_s", "s", "from their first arrival to their last", func(r *Certificate) **float64 { return &r.Probe.AboveSeconds }),
	)

	// Witnesses is table witnesses: one for the campaign.
	Witnesses = newTable("witnesses", "What each witness says of the stall of each attempt. `heliotrope judge` finds it again from the attempt's files.",
		attemptOf(func(r *Witness) *string { return &r.Trial }), trialOf(func(r *Witness) string { return r.Trial }),
		required("witness", "", "guest, hypervisor, backend, network", func(r *Witness) *string { return &r.Witness }),
		optional("from_ts_ns", "ns", "beginning of the stall, controller's time base, since 1970 UTC; null when the witness saw none", func(r *Witness) **int64 { return &r.FromTsNs }),
		optional("to_ts_ns", "ns", "its end", func(r *Witness) **int64 { return &r.ToTsNs }),
		optional("stall_ms", "ms", "its length; without a migration or pause, the longest silence there was", func(r *Witness) **float64 { return &r.StallMs }),
		optional("uncertainty_ms", "ms", "of stall_ms, both ways: from the clocks and the time between looks", func(r *Witness) **float64 { return &r.UncertaintyMs }),
		required("samples", "", "that it is made of", func(r *Witness) *int64 { return &r.Samples }),
		required("spacing_ms", "ms", "longest time between two looks outside of the stall", func(r *Witness) *float64 { return &r.SpacingMs }),
		required("problem", "", "why the witness says nothing; empty when it does; absent, when the testbed has none", func(r *Witness) *string { return &r.Problem }),
	)

	// Traffics is table traffic: one for the campaign.
	Traffics = newTable("traffic", "The bytes and packets of each class on the WAN, in each phase of each attempt. The classes together are what the "+
		"interface counted: its own count is class interface, and not to be added to them.",
		attemptOf(func(r *Traffic) *string { return &r.Trial }), trialOf(func(r *Traffic) string { return r.Trial }),
		required("phase", "", "warm-up, before, during (the migration) or after", func(r *Traffic) *string { return &r.Phase }),
		required("class", "", "migration, iscsi, nfs, drbd, control, heartbeat, other; interface: the device's own count", func(r *Traffic) *string { return &r.Class }),
		required("direction", "", "to-b: towards site B; to-a", func(r *Traffic) *string { return &r.Direction }),
		required("bytes", "bytes", "between the readings nearest to the phase's ends", func(r *Traffic) *int64 { return &r.Bytes }),
		required("packets", "packets", "likewise", func(r *Traffic) *int64 { return &r.Packets }),
	)

	// Ledgers is table ledger: one for the campaign.
	Ledgers = newTable("ledger", "What was read back of the acknowledged writes, from each copy of the disk, after the load of each attempt.",
		attemptOf(func(r *Ledger) *string { return &r.Trial }), trialOf(func(r *Ledger) string { return r.Trial }),
		required("copy", "", "of the disk: the site's device, a replica, the store's file", func(r *Ledger) *string { return &r.Copy }),
		required("host", "", "where it was read: a host of the inventory", func(r *Ledger) *string { return &r.Host }),
		required("acked", "", "newest record that a witness outside of the guest was told of; the first is 1", func(r *Ledger) *int64 { return &r.Acked }),
		required("checked", "records", "acknowledged, and not replaced by newer ones", func(r *Ledger) *int64 { return &r.Checked }),
		required("found", "records", "of them, or a newer one in their place", func(r *Ledger) *int64 { return &r.Found }),
		required("lost_count", "records", "acknowledged and not there: lost writes", func(r *Ledger) *int64 { return &r.LostCount }),
		required("lost", "", "numbers of the first of them", func(r *Ledger) *string { return &r.Lost }),
		required("newest", "", "record that was read, acknowledged or not", func(r *Ledger) *int64 { return &r.Newest }),
	)
)

// judgedColumns are the columns with what the judge found, and with how the trial was
// planned.
func judgedColumns() []column[Trial] {
	return []column[Trial]{
		required("control", "", "none, lan, pause; empty for a cell of the matrix", func(r *Trial) *string { return &r.Control }).later(),
		optional("hold_ms", "ms", "how long a control without a migration lasts, or its pause", func(r *Trial) **float64 { return &r.HoldMs }),
		required("direction", "", "outbound: from site A to B; return; empty, in files from before it was noted, is outbound", func(r *Trial) *string { return &r.Direction }).later(),
		required("sentinel", "", "one of the trials that are repeated to see whether the testbed drifts", func(r *Trial) *bool { return &r.Sentinel }).later(),
		required("cause", "", "code of the verdict's reason, to count by; empty when valid", func(r *Trial) *string { return &r.Cause }).later(),
		required("absent_witnesses", "", "those of guest, hypervisor, backend and network that the testbed does not have for this trial, separated by spaces: nothing is held against it for them", func(r *Trial) *string { return &r.AbsentWitnesses }).later(),
		required("notes", "", "what is odd and takes nothing back, for people: heartbeats lost, traffic that does not sum up; separated by semicolons", func(r *Trial) *string { return &r.Notes }).later(),
		required("judged", "", "the verdict is of what was measured, where all steps had succeeded: it may change when the attempt is judged again", func(r *Trial) *bool { return &r.Judged }).later(),
		optional("blackout_ms", "ms", "the guest's stall as the hypervisor saw it: table witnesses has the others'", func(r *Trial) **float64 { return &r.BlackoutMs }),
		optional("blackout_uncertainty_ms", "ms", "of blackout_ms, both ways", func(r *Trial) **float64 { return &r.BlackoutUncertaintyMs }),
		optional("disagreement_ms", "ms", "the largest stall of the four witnesses less the smallest, or of those that are not absent", func(r *Trial) **float64 { return &r.DisagreementMs }),
		optional("steady", "", "the load was steady when the warm-up ended", func(r *Trial) **bool { return &r.Steady }),
		optional("steady_range_percent", "percent", "highest round less the lowest, of the window's mean IOPS", func(r *Trial) **float64 { return &r.SteadyRangePercent }),
		optional("steady_slope_percent", "percent", "rise of the line of best fit over the window, of its mean IOPS", func(r *Trial) **float64 { return &r.SteadySlopePercent }),
		optional("recovery_ms", "ms", "from the blackout's end until the IOPS are back at level_after_iops for good; null when they are not, or that is not known", func(r *Trial) **float64 { return &r.RecoveryMs }),
		optional("io_lost_s", "s", "I/Os fewer than at the level, in seconds of it, from the migration's start to the end of phase after: that of phase before up to the blackout, level_after_iops from then on; below 0: more; null when a level is not known", func(r *Trial) **float64 { return &r.IOLostS }),
		optional("level_after_iops", "1/s", "the load's steady level in phase after, at the new site; null when it is not known, or there was none", func(r *Trial) **float64 { return &r.LevelAfterIOPS }),
		optional("unavailable_s", "s", "time from the storage's preparation to the end of phase after in which no I/O completed for longer than ever in phase before", func(r *Trial) **float64 { return &r.UnavailableS }),
		optional("clock_uncertainty_ms", "ms", "the worst of all machines' clocks, over the measuring phases", func(r *Trial) **float64 { return &r.ClockUncertaintyMs }),
		optional("clock_drift_ppm", "ppm", "the fastest drifting host's, against the controller's", func(r *Trial) **float64 { return &r.ClockDriftPPM }),
		optional("guest_clock_step_ms", "ms", "what the guest's clock gained in its stall beyond the stall's length: below 0 is what it lost", func(r *Trial) **float64 { return &r.GuestClockStepMs }),
		optional("ledger_acked", "", "newest record of the ledger that was acknowledged", func(r *Trial) **int64 { return &r.LedgerAcked }),
		optional("ledger_lost", "records", "acknowledged and not found again: the most of any copy", func(r *Trial) **int64 { return &r.LedgerLost }),
		required("evidence", "", "folder of what may explain a failure, in the campaign's folder; empty when there is none", func(r *Trial) *string { return &r.Evidence }).later(),
	}
}
