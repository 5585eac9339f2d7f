package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/waiting"
)

// writeStateMetrics writes what the parts hold and have done, in the text
// format of Prometheus. Labels are names of the configuration only.
func writeStateMetrics(w io.Writer, s nodeState) {
	for _, name := range slices.Sorted(maps.Keys(s.Origins)) {
		writeOriginMetrics(w, name, &s)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Functions)) {
		f, label := s.Functions[name], fmt.Sprintf("{function=%q}", name)
		gauge(w, "spillway_function_inflight"+label, f.InFlight)
		gauge(w, "spillway_function_ready_instances"+label, f.Ready)
		gauge(w, "spillway_function_starting_instances"+label, f.Starting)
		gauge(w, "spillway_function_waiting"+label, f.Waiting)
		counter(w, "spillway_function_waited_total"+label, f.Waited)
		counter(w, "spillway_function_cold_starts_total"+label, f.ColdStarts)
		counter(w, "spillway_function_warm_ups_total"+label, f.WarmUps)
		metrics.WriteGaugeFloat64(w, "spillway_function_call_seconds"+label, f.CallSeconds)
		metrics.WriteGaugeFloat64(w, "spillway_function_start_seconds"+label, f.StartSeconds)
		counter(w, "spillway_function_calls_total"+label, f.Calls)
		counter(w, "spillway_function_ok_total"+label, f.OK)
		for _, class := range slices.Sorted(maps.Keys(f.Failures)) {
			counter(w, fmt.Sprintf("spillway_function_failures_total{function=%q,class=%q}", name, class), f.Failures[class])
		}
		metrics.WriteCounterFloat64(w, "spillway_function_cost_usd_total"+label, f.CostUSD)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Shared)) {
		shared, label := s.Shared[name], fmt.Sprintf("{shared=%q}", name)
		gauge(w, "spillway_shared_calls"+label, shared.Calls)
		gauge(w, "spillway_shared_left"+label, shared.Left)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Budgets)) {
		b, label := s.Budgets[name], fmt.Sprintf("{budget=%q}", name)
		metrics.WriteGaugeFloat64(w, "spillway_budget_left_usd"+label, b.Left)
		metrics.WriteGaugeFloat64(w, "spillway_budget_at_risk_usd"+label, b.AtRisk)
		for _, p := range b.Periods {
			label := fmt.Sprintf("{budget=%q,period=%q}", name, p.Period)
			metrics.WriteGaugeFloat64(w, "spillway_budget_spent_usd"+label, p.Spent)
			metrics.WriteGaugeFloat64(w, "spillway_budget_limit_usd"+label, p.Limit+p.Added)
			gauge(w, "spillway_budget_warned_percent"+label, p.Warned)
		}
	}
	gauge(w, "spillway_budget_ledger_broken", flag(s.Ledger.Error != ""))
	counter(w, "spillway_budget_ledger_writes_total", s.Ledger.Writes)
	for _, r := range s.Routes {
		label := fmt.Sprintf("{route=%q}", r.Route)
		counter(w, "spillway_route_calls_total"+label, r.Calls)
		metrics.WriteCounterFloat64(w, "spillway_route_cost_usd_total"+label, r.CostUSD)
		metrics.WriteCounterFloat64(w, "spillway_route_avoidable_usd_total"+label, r.AvoidableUSD)
		saved := fmt.Sprintf("spillway_route_saved_usd{route=%q,by=", r.Route)
		metrics.WriteGaugeFloat64(w, saved+`"cache"}`, r.SavedByCacheUSD)
		metrics.WriteGaugeFloat64(w, saved+`"collapsing"}`, r.SavedByCollapsingUSD)
		metrics.WriteCounterFloat64(w, "spillway_exercise_cost_usd_total"+label, r.ExercisesUSD)
	}
	writeProofMetrics(w, &s)
	c := s.Cache
	gauge(w, "spillway_cache_bytes", c.Bytes)
	gauge(w, "spillway_cache_limit_bytes", c.Limit)
	gauge(w, "spillway_cache_entries", c.Entries)
	gauge(w, "spillway_cache_pinned_bytes", c.Pinned)
	gauge(w, "spillway_cache_fill_bytes", c.FillBytes)
	counter(w, "spillway_cache_stored_total", c.Stored)
	counter(w, "spillway_cache_evicted_total", c.Evicted)
	gauge(w, "spillway_cache_background_fetches", c.Background)
	counter(w, `spillway_cache_renewals_total{result="ok"}`, c.Renewed)
	counter(w, `spillway_cache_renewals_total{result="failed"}`, c.Unrenewed)
	for _, r := range s.CacheRoutes {
		for _, status := range edge.CacheStatuses {
			counter(w, fmt.Sprintf("spillway_cache_requests_total{route=%q,status=%q}", r.Route, status), r.Requests[status])
		}
	}
	counter(w, `spillway_cache_recoded_total{coding="zstd"}`, c.Recoded.Zstd)
	counter(w, `spillway_cache_recoded_total{coding="br"}`, c.Recoded.Brotli)
	counter(w, `spillway_cache_recoded_total{coding="gzip"}`, c.Recoded.Gzip)
	counter(w, `spillway_cache_recoded_total{coding="identity"}`, c.Recoded.Identity)
	counter(w, "spillway_cache_unrecoded_total", c.Unrecoded)
	writePurgeMetrics(w, &c)
	writeSliceMetrics(w, &c)
	writeDiskMetrics(w, c.Disk)
	for _, name := range slices.Sorted(maps.Keys(s.Waiting)) {
		writeWaitingMetrics(w, fmt.Sprintf("{origin=%q}", name), s.Waiting[name])
	}
	writeAdmissionMetrics(w, &s)
	counter(w, `spillway_reloads_total{result="ok"}`, s.Config.Reloads)
	counter(w, `spillway_reloads_total{result="refused"}`, s.Config.Refusals)
	counter(w, "spillway_upgrades_refused_total", s.Upgrade.Refusals)
	gauge(w, "spillway_predecessor_requests", s.Upgrade.Draining.Requests)
	gauge(w, "spillway_config_refused", flag(len(s.Config.Refused.Problems) > 0))
}

// writeDiskMetrics tells of the tier on the disk, if there is one.
func writeDiskMetrics(w io.Writer, d *cache.DiskState) {
	if d == nil {
		return
	}
	gauge(w, "spillway_cache_disk_up", flag(d.Phase == "on"))
	gauge(w, "spillway_cache_disk_bytes", d.Bytes)
	gauge(w, "spillway_cache_disk_limit_bytes", d.Limit)
	gauge(w, "spillway_cache_disk_objects", d.Objects)
	gauge(w, "spillway_cache_disk_queued_bytes", d.Queued)
	counter(w, "spillway_cache_disk_hits_total", d.Recalled)
	counter(w, "spillway_cache_disk_late_total", d.Late)
	counter(w, "spillway_cache_disk_read_bytes_total", d.Read)
	counter(w, "spillway_cache_disk_written_bytes_total", d.Written)
	counter(w, "spillway_cache_disk_evicted_total", d.Evicted)
	counter(w, "spillway_cache_disk_damaged_total", d.Damaged)
	counter(w, `spillway_cache_disk_refused_total{reason="queue"}`, d.RefusedQueue)
	counter(w, `spillway_cache_disk_refused_total{reason="size"}`, d.RefusedSize)
	counter(w, `spillway_cache_disk_refused_total{reason="off"}`, d.RefusedOff)
	counter(w, `spillway_cache_disk_refused_total{reason="pinned"}`, d.RefusedPinned)
}

func writePurgeMetrics(w io.Writer, c *cache.State) {
	counter(w, `spillway_cache_purges_total{kind="url"}`, c.Purges.URL)
	counter(w, `spillway_cache_purges_total{kind="prefix"}`, c.Purges.Prefix)
	counter(w, `spillway_cache_purges_total{kind="tag"}`, c.Purges.Tag)
	counter(w, `spillway_cache_purges_total{kind="group"}`, c.Purges.Group)
	counter(w, `spillway_cache_purges_total{kind="all"}`, c.Purges.All)
	counter(w, "spillway_cache_purged_entries_total", c.Purged)
	counter(w, "spillway_cache_tags_ignored_total", c.TagsIgnored)
}

func writeSliceMetrics(w io.Writer, c *cache.State) {
	counter(w, `spillway_cache_slices_total{result="stored"}`, c.Slices.Stored)
	counter(w, `spillway_cache_slices_total{result="joined"}`, c.Slices.Joined)
	counter(w, `spillway_cache_slices_total{result="fetched"}`, c.Slices.Fetched)
	counter(w, "spillway_cache_slice_changes_total", c.Slices.Changes)
}

func writeOriginMetrics(w io.Writer, name string, s *nodeState) {
	o, label := s.Origins[name], fmt.Sprintf("{origin=%q}", name)
	l := o.Limit
	gauge(w, "spillway_origin_up"+label, flag(o.Up))
	gauge(w, "spillway_origin_limit"+label, l.Limit)
	gauge(w, "spillway_origin_inflight"+label, l.InFlight)
	gauge(w, "spillway_origin_queue_length"+label, l.Queued)
	gauge(w, "spillway_origin_long_lived"+label, l.LongLived)
	gauge(w, "spillway_origin_read_ahead_bytes"+label, o.ReadAhead)
	metrics.WriteGaugeFloat64(w, "spillway_origin_useful_concurrency"+label, l.Useful)
	metrics.WriteGaugeFloat64(w, "spillway_origin_utilization"+label, l.Utilization)
	gauge(w, "spillway_origin_paused"+label, flag(l.Paused))
	for _, b := range l.Baselines {
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("spillway_origin_baseline_seconds{origin=%q,class=\"%d\"}", name, b.Class), b.Latency.Seconds())
	}
	counter(w, "spillway_origin_dips_total"+label, l.Dips)
	counter(w, "spillway_origin_blocked_total"+label, l.Blocked)
	counter(w, "spillway_origin_waited_total"+label, l.Waited)
	counter(w, "spillway_origin_pushed_out_total"+label, l.PushedOut)
	for priority, n := range l.TurnedAway {
		counter(w, fmt.Sprintf("spillway_origin_turned_away_total{origin=%q,priority=\"%d\"}", name, priority), n)
	}
	counter(w, "spillway_origin_truncated_total"+label, o.Truncated)
	counter(w, "spillway_origin_retries_total"+label, o.Retried)
	counter(w, "spillway_origin_retries_refused_total"+label, o.RetriesRefused)
	counter(w, "spillway_origin_resolve_failures_total"+label, o.ResolveFailures)
	metrics.WriteGaugeFloat64(w, "spillway_origin_wanted_capacity_ratio"+label, o.Scale.Ratio)
	gauge(w, "spillway_origin_wanted_servers"+label, o.Scale.Wanted)
	gauge(w, "spillway_origin_scale_out_needed"+label, flag(o.Scale.Needed))
	counter(w, fmt.Sprintf("spillway_origin_scale_out_messages_total{origin=%q,result=\"delivered\"}", name), o.Scale.Delivered)
	counter(w, fmt.Sprintf("spillway_origin_scale_out_messages_total{origin=%q,result=\"failed\"}", name), o.Scale.Failed)
	for _, server := range o.Servers {
		label := fmt.Sprintf("{origin=%q,server=%q}", name, server.URL)
		gauge(w, "spillway_server_up"+label, flag(server.Up))
		gauge(w, "spillway_server_draining"+label, flag(server.Draining))
		gauge(w, "spillway_server_inflight"+label, server.InFlight)
		counter(w, "spillway_server_requests_total"+label, server.Requests)
		counter(w, "spillway_server_failures_total"+label, server.Failures)
	}
}

func writeWaitingMetrics(w io.Writer, label string, s waiting.State) {
	gauge(w, "spillway_waiting_visitors"+label, s.Visitors)
	gauge(w, "spillway_waiting_called"+label, s.Called)
	gauge(w, "spillway_waiting_at_door"+label, s.AtDoor)
	metrics.WriteGaugeFloat64(w, "spillway_waiting_estimate_seconds"+label, s.Estimate)
	metrics.WriteGaugeFloat64(w, "spillway_waiting_lag_seconds"+label, s.Lag)
	counter(w, "spillway_waiting_tickets_total"+label, s.Tickets)
	counter(w, "spillway_waiting_admitted_total"+label, s.Admitted)
	counter(w, "spillway_waiting_left_total"+label, s.Left)
	counter(w, "spillway_waiting_void_tickets_total"+label, s.Void)
}

func writeAdmissionMetrics(w io.Writer, s *nodeState) {
	a := s.Admission
	gauge(w, "spillway_connections", a.Connections)
	gauge(w, "spillway_handshakes_half_open", a.HalfOpen)
	gauge(w, "spillway_handshakes_waiting", s.Visits.Newcomers)
	gauge(w, "spillway_admission_short", flag(a.Short))
	counter(w, "spillway_handshakes_started_total", a.Started)
	counter(w, "spillway_handshakes_completed_total", a.Completed)
	counter(w, "spillway_handshakes_failed_total", a.Failed)
	counter(w, "spillway_handshake_retries_total", a.Retries)
	counter(w, `spillway_connections_refused_total{reason="full"}`, a.RefusedFull)
	counter(w, `spillway_connections_refused_total{reason="half-open"}`, a.RefusedHalfOpen)
	counter(w, `spillway_connections_refused_total{reason="source"}`, a.RefusedSource)
	counter(w, `spillway_connections_refused_total{reason="denied"}`, a.RefusedDenied)
	counter(w, `spillway_connections_refused_total{reason="budget"}`, a.RefusedBudget)
	counter(w, `spillway_connections_refused_total{reason="closed"}`, a.RefusedClosed)
	counter(w, "spillway_requests_refused_by_source_total", a.RefusedRequests)
	gauge(w, "spillway_admission_level", int(a.Level))
	for _, mode := range admit.Modes {
		reason := admit.NotRefused
		if mode == a.Mode {
			reason = a.RefusedReason
		}
		gauge(w, fmt.Sprintf("spillway_admission_mode{mode=%q,reason=%q}", mode, reason), flag(mode == a.Mode))
	}
	metrics.WriteGaugeFloat64(w, "spillway_admission_heartbeat_age_seconds", a.Heartbeat)
	metrics.WriteGaugeFloat64(w, "spillway_admission_handshake_cpu_ratio", a.Signals.HandshakeCPU)
	metrics.WriteGaugeFloat64(w, "spillway_admission_delay_seconds", a.Signals.Delay.Seconds())
	metrics.WriteGaugeFloat64(w, `spillway_admission_budget{protocol="quic"}`, a.BudgetQUIC)
	metrics.WriteGaugeFloat64(w, `spillway_admission_budget{protocol="tcp"}`, a.BudgetTCP)
	gauge(w, "spillway_admission_rules", a.Rules)
	counter(w, "spillway_admission_bans_total", a.Bans)
	for _, c := range a.Packets {
		verdict := "pass"
		if c.Drop {
			verdict = "drop"
			counter(w, fmt.Sprintf(`spillway_admission_packets_total{reason=%q,verdict="would-drop"}`, c.Reason), c.Unenforced)
		}
		counter(w, fmt.Sprintf("spillway_admission_packets_total{reason=%q,verdict=%q}", c.Reason, verdict), c.Packets)
	}
	counter(w, "spillway_admission_samples_lost_total", a.SamplesLost)
	v := s.Visits
	counter(w, `spillway_connections_closed_total{reason="no-request"}`, v.HeaderTimeouts)
	counter(w, `spillway_connections_closed_total{reason="idle"}`, v.IdleTimeouts)
	counter(w, `spillway_connections_closed_total{reason="crowded"}`, v.Crowded)
	counter(w, `spillway_connections_closed_total{reason="excess"}`, v.Excesses)
	counter(w, `spillway_connections_closed_total{reason="proxy-header"}`, v.ProxyHeaders)
	counter(w, "spillway_stalls_total", v.Stalls)
	counter(w, "spillway_streams_shed_total", v.ShedStreams)
	counter(w, "spillway_accept_failures_total", v.Unaccepted)
	gauge(w, "spillway_certificate_expiry_timestamp_seconds", v.CertificateExpiry.Unix())
	counter(w, "spillway_certificates_refused_total", v.CertificatesRefused)
	gauge(w, "spillway_keys_unsaved", flag(v.KeysUnsaved))
	gauge(w, "spillway_upload_window_bytes", v.UploadWindow)
	gauge(w, "spillway_udp_buffer_bytes", v.UDPBuffer)
	counter(w, `spillway_udp_dropped_total{queue="socket"}`, v.UDPDropped)
	counter(w, `spillway_udp_dropped_total{queue="handshakes"}`, v.UDPUnprocessed)
	for _, steering := range edge.Steerings {
		sockets := 0
		if steering == v.UDPSteering {
			sockets = v.UDPSockets
		}
		gauge(w, fmt.Sprintf("spillway_udp_sockets{steering=%q}", steering), sockets)
	}
}

func gauge[T int | int64 | uint64](w io.Writer, name string, v T) {
	metrics.WriteGaugeUint64(w, name, uint64(max(v, 0)))
}

func counter(w io.Writer, name string, v uint64) { metrics.WriteCounterUint64(w, name, v) }

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
