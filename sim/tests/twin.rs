//! Twin tests: what a node may expect of its doors, asked of the real world and of the simulated one.
//!
//! Each test is one function of a [`Stage`] and runs twice, as `real::NAME` and as `simulated::NAME`. A difference
//! between the two is a bug of the simulated world, or a promise of `Env` that its documentation has to take back.

#[path = "twin/disk.rs"]
mod disk;
#[path = "twin/harness.rs"]
mod harness;
#[path = "twin/network.rs"]
mod network;
#[path = "twin/tasks.rs"]
mod tasks;
#[path = "twin/timers.rs"]
mod timers;

macro_rules! on_both_worlds {
    ($($module:ident: { $($test:ident),* $(,)? })*) => {
        /// On tokio, TCP over loopback, and a temporary directory.
        mod real { $(mod $module { $(#[test] fn $test() { crate::harness::in_the_real_world(crate::$module::$test); })* })* }
        /// In a seeded world.
        mod simulated { $(mod $module { $(#[test] fn $test() { crate::harness::in_a_simulated_world(crate::$module::$test); })* })* }
    };
}

on_both_worlds! {
    network: {
        bytes_arrive_in_order_in_both_directions,
        both_ends_agree_on_their_addresses,
        a_half_closed_stream_still_carries_the_other_direction,
        bytes_written_before_the_end_arrive_before_it,
        the_end_of_a_stream_is_told_again,
        a_writer_waits_while_its_reader_does_not_read,
        a_connection_to_a_closed_port_is_refused,
        a_connection_to_an_unknown_host_finds_nobody,
        a_connection_dropped_with_unread_bytes_is_reset,
        a_connection_dropped_with_everything_read_ends,
        writing_to_a_peer_that_is_gone_fails,
        a_writer_outlives_its_reader,
        an_accepted_connection_outlives_its_listener,
        a_port_is_listened_on_once,
        a_read_given_up_loses_no_byte,
        a_write_given_up_loses_no_byte,
        a_connect_given_up_still_reaches_the_listener,
        a_file_goes_out_between_the_bytes_around_it,
        a_file_shorter_than_promised_is_an_error,
        a_large_file_waits_for_its_reader,
    }
    disk: {
        an_append_says_where_it_went_and_is_ready_at_once,
        an_append_keeps_the_order_of_many_buffers,
        a_read_is_short_only_at_the_end_of_the_file,
        a_long_read_returns_every_byte,
        a_write_inside_the_file_moves_no_end,
        a_write_at_the_end_moves_it,
        truncation_forgets_the_tail_and_growth_fills_with_zeros,
        opening_keeps_its_four_promises,
        a_file_opened_for_reading_takes_no_write,
        two_handles_see_one_file,
        a_rename_replaces_in_one_step,
        a_directory_is_renamed_with_all_in_it,
        an_open_file_follows_its_new_name,
        a_removed_file_lives_until_it_is_dropped,
        a_listing_is_sorted_and_knows_directories,
        what_is_missing_is_not_found,
        a_directory_goes_with_all_in_it,
        sync_succeeds_on_what_is_there,
        there_is_free_space,
        an_operation_nobody_waits_for_is_done_all_the_same,
    }
    timers: {
        a_timer_fires_at_its_deadline_and_not_before,
        timers_fire_in_the_order_of_their_deadlines,
        a_deadline_in_the_past_fires_at_once,
        a_fired_timer_stays_fired,
        a_timer_reset_later_waits_longer,
        a_timer_reset_earlier_fires_earlier,
        a_reset_wakes_a_waiter_that_was_not_polled_since,
        a_disarmed_timer_never_fires,
        a_dropped_timer_wakes_nobody,
        a_fired_timer_can_be_armed_again,
        until_gives_up_at_its_deadline,
        until_prefers_the_work_that_is_done,
        clocks_move_forward,
    }
    tasks: {
        a_spawned_task_runs,
        a_task_may_spawn_another,
        streams_of_entropy_differ_by_name_and_by_turn,
    }
}
