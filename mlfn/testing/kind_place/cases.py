"""The names of all cases, by chapter, in the order in which the documentation lists them."""

from __future__ import annotations

from collections.abc import Mapping

CHAPTERS: Mapping[str, tuple[str, ...]] = {
    "Result": (
        "a_value_comes_back_as_itself",
        "typed_inputs_and_outputs_travel",
        "users_exception_arrives_with_its_frames",
        "output_of_another_run_is_a_parameter",
        "artifact_is_readable_after_the_object_is_gone",
        "result_too_large_names_size_and_way_out",
        "what_the_kind_injects_is_no_parameter",
    ),
    "Watching": (
        "waits_as_pending_with_words",
        "metrics_arrive_once_in_order",
        "progress_is_seen_live",
        "log_followed_live_equals_log_after",
        "parallel_logs_never_mix",
        "log_of_each_rank",
    ),
    "Ends": (
        "cancel_pending_starts_nothing",
        "cancel_running_is_confirmed_after_finally",
        "ignored_sigterm_is_killed_after_grace",
        "timeout_has_its_words",
        "timeout_holds_without_a_client",
        "exit_signal_oom_each_has_its_reason",
        "preempted_uses_no_budget",
        "retry_is_a_new_attempt",
        "python_skew_names_both_sides",
        "deleted_by_others_is_named",
        "one_rank_fails_all_with_its_traceback",
    ),
    "Clients": (
        "killed_between_record_and_create",
        "killed_between_create_and_first_status",
        "killed_before_recording_the_end",
        "hour_away_loses_nothing",
        "usurped_client_records_nothing",
        "other_process_cancels",
        "unreachable_place_concludes_nothing",
        "replayed_journal_changes_nothing",
        "exit_leaves_what_outlives_it",
    ),
    "Sweeps": (
        "grid_selects_best",
        "grid_is_one_object",
        "stopping_one_unit_leaves_others",
        "failed_unit_fails_alone",
        "max_failures_exact",
        "stop_when_ends_unstarted",
        "resume_runs_only_the_missing",
        "pruned_child_is_pruned",
    ),
    "Safety": (
        "no_secret_or_master_key_anywhere",
        "unmet_option_refused_by_name",
        "plan_creates_nothing_and_is_accepted",
        "gc_removes_only_unclaimed",
        "third_party_kind_and_place_by_entry_point",
    ),
}

CASES = tuple(case for cases in CHAPTERS.values() for case in cases)
