//! The suite that every store must pass. It has one function for each promise of [`crate::Store`], named after the
//! fact that it checks.
//!
//! [`crate::conformance_tests!`] makes a test of each function. A function panics if the store breaks its promise.
//! It needs a store that holds nothing yet.

mod listing;
mod sample;
mod stamps;
mod timeline;
mod writes;

pub use listing::{
    active_rooms_are_told_once_each_and_only_those_of_the_minutes_asked, devices_of_a_user_are_those_with_an_address,
    members_are_paged_by_user, order_rows_are_paged_without_gap_or_repeat_where_times_are_equal,
    order_rows_come_newest_first_and_not_before_since, order_rows_of_six_days_ago_are_still_there,
    read_markers_come_in_the_order_of_the_rooms_asked, rooms_of_a_user_are_paged_newest_first,
    rows_of_one_room_or_user_never_show_under_another, those_who_left_are_not_among_members_or_rooms,
};
pub use stamps::{
    a_late_join_does_not_bring_back_who_left, a_read_marker_only_rises, a_revised_event_stays_revised,
    a_user_is_signed_out_up_to_the_latest_time, of_one_seq_the_later_turn_stays, the_fence_is_never_lowered,
    the_higher_stamp_stays_within_one_write, the_number_of_partitions_stays, the_room_row_with_the_higher_stamp_stays,
    two_claims_of_one_epoch_are_both_seen, what_is_pushed_only_rises, what_is_settled_only_rises,
};
pub use timeline::{
    a_page_is_the_lowest_rows_or_the_newest_ones_oldest_first, a_range_of_seqs_includes_both_ends,
    a_timeline_crosses_every_border_in_order, an_event_comes_back_as_it_was_written, events_go_at_their_time,
    nonces_come_in_the_order_of_the_timeline, rows_that_do_not_count_are_read_too, starts_come_by_epoch,
};
pub use writes::{
    a_new_store_holds_nothing, a_reader_never_sees_a_hole, a_write_of_nothing_is_done, concurrent_writers_lose_nothing,
    many_large_rows_fit_in_one_write, of_concurrent_writes_the_highest_stamp_stays, rows_of_all_kinds_go_in_one_write,
    what_is_written_again_changes_nothing, what_was_deleted_is_removed_piece_by_piece,
};

/// Makes a test of every function of [`crate::conformance`].
///
/// Each test calls `$open`, an `async fn` that returns a guard and a fresh store as `Arc<dyn Store>`. The guard is
/// dropped when the test is over. The caller needs tokio's features `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! conformance_tests {
    ($open:path) => {
        $crate::conformance_tests! { @each $open;
            a_late_join_does_not_bring_back_who_left
            a_new_store_holds_nothing
            a_page_is_the_lowest_rows_or_the_newest_ones_oldest_first
            a_range_of_seqs_includes_both_ends
            a_read_marker_only_rises
            a_reader_never_sees_a_hole
            a_revised_event_stays_revised
            a_timeline_crosses_every_border_in_order
            a_write_of_nothing_is_done
            a_user_is_signed_out_up_to_the_latest_time
            active_rooms_are_told_once_each_and_only_those_of_the_minutes_asked
            an_event_comes_back_as_it_was_written
            concurrent_writers_lose_nothing
            events_go_at_their_time
            devices_of_a_user_are_those_with_an_address
            many_large_rows_fit_in_one_write
            members_are_paged_by_user
            nonces_come_in_the_order_of_the_timeline
            of_concurrent_writes_the_highest_stamp_stays
            of_one_seq_the_later_turn_stays
            order_rows_are_paged_without_gap_or_repeat_where_times_are_equal
            order_rows_come_newest_first_and_not_before_since
            order_rows_of_six_days_ago_are_still_there
            read_markers_come_in_the_order_of_the_rooms_asked
            rooms_of_a_user_are_paged_newest_first
            rows_of_all_kinds_go_in_one_write
            rows_of_one_room_or_user_never_show_under_another
            rows_that_do_not_count_are_read_too
            starts_come_by_epoch
            the_fence_is_never_lowered
            the_higher_stamp_stays_within_one_write
            the_number_of_partitions_stays
            the_room_row_with_the_higher_stamp_stays
            those_who_left_are_not_among_members_or_rooms
            two_claims_of_one_epoch_are_both_seen
            what_is_pushed_only_rises
            what_is_settled_only_rises
            what_is_written_again_changes_nothing
            what_was_deleted_is_removed_piece_by_piece
        }
    };
    (@each $open:path; $($fact:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fact() {
                let (_kept, store) = $open().await;
                $crate::conformance::$fact(store).await;
            }
        )*
    };
}
