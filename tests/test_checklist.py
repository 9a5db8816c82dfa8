"""What a vfio-user server has to check, row by row, and the tests that prove it.

The rows follow the checklist a server was built by.
"""

import ast
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

#: section -> row -> tests, as "file::name" with "test_" left out of both
CHECKLIST: dict[str, dict[str, tuple[str, ...]]] = {
    "transport and header": {
        "only commands are taken from the client; we have none in flight, so a reply is refused": (
            "message_header::a_message_that_is_no_command_is_refused",
            "engine_server::a_message_that_is_no_command_is_refused_and_the_conversation_goes_on",
        ),
        "an Error reply is a bare header with a real errno": (
            "message_header::an_error_reply_is_a_bare_header",
        ),
        "every command is answered, with No_reply none, not even by an error": (
            "message_header::what_wants_no_reply_gets_none_not_even_an_error",
            "engine_server::posted_writes_are_never_answered_not_even_wrong_ones",
            "message_version::a_posted_version_is_not_answered",
        ),
        "commands are done in the order of arrival, posted ones before the next reply": (
            "message_header::many_messages_in_one_write_are_answered_in_order",
            "message_header::a_posted_write_is_done_before_the_next_reply",
            "message_region::posted_writes_in_a_burst_are_all_done",
        ),
        "message ids are the client's: they may repeat, and come back with the command in a reply": (
            "message_header::ids_may_repeat_and_are_echoed",
        ),
        "one direction does not stall while a reply of the other is waited for": (
            "engine_peer::the_guest_is_served_while_the_server_waits_for_it",
            "dma::a_deferred_copy_by_messages_goes_on_while_hooks_run",
        ),
        "an impossible size is answered and ends the conversation, its body is never taken for messages": (
            "message_header::an_impossible_size_gets_an_error_and_ends_the_connection",
            "engine_server::an_impossible_size_is_answered_and_ends_the_conversation",
            "garbage::random_sizes_in_the_header",
        ),
        "the largest size there may be passes": (
            "engine_server::the_largest_transfer_passes_both_ways",
            "message_region::the_largest_message_that_qemu_sends",
        ),
        "a missing payload is refused": ("message_header::a_missing_payload_is_refused",),
        "an unknown command is refused and its body skipped": (
            "message_header::an_unknown_command_is_refused_and_its_body_is_skipped",
        ),
        "the first message is VERSION without descriptors, or the end": (
            "message_version::the_first_message_has_to_be_version",
            "message_version::a_version_with_a_file_descriptor_is_refused",
            "engine_server::the_first_message_must_be_version_without_descriptors",
        ),
        "a second VERSION is refused": (
            "message_version::a_second_version_is_refused_and_the_conversation_goes_on",
        ),
        "descriptors where none belong are refused and closed, on every path": (
            "message_header::file_descriptors_where_none_belong_are_refused_and_closed",
            "engine_server::descriptors_on_a_command_that_takes_none_are_refused_and_closed",
            "engine_server::a_client_may_go_at_any_byte",
            "garbage::well_framed_messages_with_any_payload",
        ),
        "descriptors that the kernel dropped end the conversation": (
            "message_machine::descriptors_that_the_process_has_no_room_for_end_the_conversation",
        ),
        "there is room for more descriptors than are advertised": (
            "message_header::more_eventfds_than_advertised_are_still_taken",
            "engine_server::253_descriptors_are_accepted_and_too_many_for_one_message_are_fatal",
        ),
        "descriptors belong to the last message of what one recvmsg brought": (
            "message_header::file_descriptors_reach_their_message_among_others",
            "message_header::file_descriptors_with_the_first_piece_of_a_cut_message",
            "engine_server::descriptors_go_to_the_message_that_they_came_with",
            "engine_server::descriptors_of_a_split_message_wait_for_its_rest",
            "engine_server::a_split_message_and_the_next_one_each_keep_their_own",
        ),
        "messages may be cut anywhere": (
            "message_header::any_way_of_cutting_messages_gives_the_same_answers",
            "message_header::messages_in_single_bytes_are_put_together",
            "engine_server::messages_may_be_split_at_any_byte",
        ),
        "EINTR and EAGAIN are no end, neither in receiving nor in sending": (
            "message_machine::signals_while_the_server_waits_for_a_message_disturb_nothing",
            "message_machine::signals_while_it_waits_for_an_eventfd_too_disturb_nothing",
            "message_machine::signals_while_a_full_socket_is_waited_for_lose_no_byte",
            "engine_server::a_nonblocking_socket_is_served_too",
        ),
        "a reply is one sendmsg, and goes on after a short one": (
            "message_machine::a_reply_comes_in_one_piece",
            "message_machine::signals_while_a_full_socket_is_waited_for_lose_no_byte",
        ),
        "a client that is gone raises no SIGPIPE": (
            "garbage::a_client_that_dies_unread_answers_leave_a_server_that_listens",
        ),
    },
    "VERSION": {
        "the same major, at most the client's minor": (
            "message_version::the_minor_version_is_at_most_the_clients",
            "session::another_major_version_is_refused",
        ),
        "only capabilities that the client offered, in a reply not longer than its request": (
            "message_version::qemus_offer_gets_an_answer_that_qemu_has_room_for",
            "session::version_offers_write_multiple_only_to_a_client_that_does",
        ),
        "what is absent has its default": (
            "message_version::absent_capabilities_are_the_defaults_and_unknown_ones_ignored",
        ),
        "the client's limits are kept": ("message_version::the_clients_transfer_limit_is_kept",),
        "short, no JSON, no NUL, wrong types, numbers out of range: refused, and the end": (
            "message_version::a_bad_version_is_refused_and_ends_the_conversation",
            "session::version_with_a_wrong_limit_is_refused_and_closes",
            "protocol::any_version_payload_is_read_or_refused",
        ),
        "0 to 1024 descriptors in one message are a sane offer": (
            "message_version::every_sane_number_of_fds_is_accepted",
        ),
    },
    "DMA_MAP": {
        "an overlap is refused, the identical map again is a success": (
            "message_dma::an_overlap_is_refused_and_changes_nothing",
            "message_dma::the_identical_map_again_is_a_success",
        ),
        "sizes, alignment, flags, sums that overflow, a file too short: refused, and its file closed": (
            "message_dma::a_bad_map_is_refused_and_its_file_closed",
            "message_dma::ranges_at_the_top_of_the_address_space",
        ),
        "more maps than are advertised are refused": (
            "engine_dma::65535_maps_of_one_memory_use_one_descriptor_and_no_more_fit",
        ),
        "one file, and one that is memory": (
            "message_dma::two_files_are_one_too_many",
            "message_dma::a_descriptor_that_is_no_memory_is_refused",
            "message_dma::a_read_only_file_may_be_mapped_read_only",
        ),
        "without a file the range is taken, and reached by messages": (
            "message_dma::maps_without_a_file_and_read_only_maps_are_taken",
            "engine_peer::a_read_is_a_message_and_a_record",
        ),
        "a file that is truncated behind its mapping fails the copy, and does not end the process": (
            "message_dma::a_file_truncated_behind_its_mapping_fails_the_copy_and_nothing_else",
            "engine_dma::a_truncated_file_is_an_error_and_does_not_grow",
        ),
        "a file that is truncated while the device copies does not end the process": (
            "message_dma::a_file_truncated_again_and_again_while_the_device_copies_never_ends_the_process",
        ),
        "a longer argsz is taken": ("message_dma::longer_argsz_and_payloads_are_taken",),
    },
    "DMA_UNMAP": {
        "the range has to match exactly": (
            "message_dma::an_unmap_has_to_match_exactly",
            "engine_dma::unmap_wants_an_exact_match",
        ),
        "the reply echoes the request, and comes when nobody uses the memory any more": (
            "engine_server::unmap_echoes_its_struct_and_all_takes_everything",
            "engine_dma::an_unmap_waits_for_copies_and_new_copies_do_not_see_the_range",
            "message_dma::memory_is_gone_for_the_device_after_the_unmap",
        ),
        "ALL takes everything and wants no range": (
            "message_dma::unmap_all_takes_everything_and_again_is_no_error",
        ),
        "short, too long, other flags, a dirty bitmap: refused": (
            "message_dma::a_bad_unmap_is_refused_and_changes_nothing",
        ),
    },
    "what is asked once": {
        "GET_INFO: 16 bytes or more, answered with 16": (
            "message_infos::the_device_is_pci_and_can_be_reset",
            "message_infos::a_short_info_request_is_refused",
        ),
        "GET_REGION_INFO: short or no such index is refused, other fields are not looked at": (
            "message_infos::a_bad_region_request_is_refused",
            "message_infos::other_fields_of_a_region_request_are_not_looked_at",
            "message_infos::an_absent_region_is_empty_and_no_error",
        ),
        "GET_REGION_INFO: capabilities that do not fit are announced, not cut": (
            "session::region_capabilities_that_do_not_fit_are_announced_not_truncated",
            "message_infos::the_reply_is_never_longer_than_asked",
            "mapped::the_file_comes_with_each_full_answer_and_not_without_the_areas",
        ),
        "GET_REGION_IO_FDS: flags, count, absent regions are refused; an empty list is an answer": (
            "message_infos::a_bad_request_for_eventfds_is_refused",
            "message_infos::no_region_has_eventfds_of_its_own",
            "doorbells::a_bad_request_is_refused",
            "doorbells::a_reply_that_does_not_fit_is_announced_without_descriptors",
        ),
        "GET_IRQ_INFO: short or no such index is refused": (
            "message_infos::a_bad_irq_request_is_refused",
            "message_infos::irq_infos_say_counts_and_masking",
        ),
        "a reply fits into the room that QEMU has for it": (
            "message_infos::a_reply_fits_the_room_that_qemu_has_for_it",
        ),
    },
    "SET_IRQS": {
        "sizes, index, range, one kind of data, one action, as many data and descriptors as vectors": (
            "message_set_irqs::a_bad_message_is_refused_and_its_fds_closed",
            "engine_irq::a_wrong_set_is_refused_and_its_descriptors_closed",
        ),
        "only eventfds": (
            "message_set_irqs::a_file_is_no_eventfd",
            "engine_irq::only_eventfds_are_taken",
        ),
        "none instead of an eventfd takes it away": (
            "message_set_irqs::an_eventfd_message_without_fds_takes_them_away",
            "engine_irq::a_range_is_assigned_and_taken_away",
        ),
        "NONE and BOOL trigger the client's own interrupt": (
            "message_set_irqs::a_client_can_trigger_its_own_interrupt",
            "message_set_irqs::a_bool_of_zero_does_nothing",
            "engine_irq::none_and_bool_trigger_loop_back",
        ),
        "mask and unmask, also by eventfd": (
            "message_set_irqs::mask_and_unmask_by_bool",
            "message_set_irqs::the_unmask_eventfd_unmasks_as_kvm_does",
            "message_set_irqs::a_new_unmask_eventfd_replaces_the_old",
            "message_set_irqs::an_eventfd_that_cannot_be_kept_is_not_leaked",
        ),
        "disabling an index without vectors is a success": (
            "message_set_irqs::disabling_an_index_without_vectors_is_a_success",
        ),
        "vectors of MSI and MSI-X are exact, armed, replaced and taken away in ranges of any form": (
            "vectors::the_counts_are_exact_and_msix_may_grow",
            "vectors::every_vector_reaches_its_own_eventfd",
            "vectors::a_run_without_eventfds_takes_them_away_and_keeps_what_is_pending",
            "vectors::ranges_beyond_the_table_are_refused",
            "vectors::eventfds_are_swapped_under_a_triggering_thread_without_loss",
        ),
        "masks hold vectors back, pending ones are delivered once": (
            "vectors::a_vector_masked_in_the_table_is_delivered_once_on_unmask",
            "vectors::the_function_mask_holds_every_vector_back",
            "vectors::msi_masks_and_pending_bits_are_in_the_capability",
        ),
    },
    "REGION_READ and REGION_WRITE": {
        "at most what was agreed on in one message": (
            "message_region::a_read_of_more_than_the_limit_is_refused",
            "message_version::the_clients_transfer_limit_is_kept",
        ),
        "short, or data that is not as long as it says: refused": (
            "message_region::a_short_access_is_refused",
            "message_region::a_write_needs_exactly_its_data",
            "message_region::a_refused_write_changes_nothing",
        ),
        "no such region, or outside of it, also by a sum that overflows: refused": (
            "message_region::an_access_outside_is_refused",
        ),
        "no bytes are a success": ("message_region::no_bytes_are_a_success",),
        "what a region does not allow is refused": (
            "engine_region::an_access_against_the_regions_flags_is_refused",
        ),
        "a write is answered with its 16 bytes, a read with these and all its data": (
            "engine_server::regions_are_read_and_written",
        ),
        "a region that the client maps can be accessed by messages too": (
            "mapped::guest_mapping_messages_array_and_peek_see_the_same_bytes",
            "mapped::an_access_across_the_border_of_mapped_pages",
        ),
        "a stopped device still answers, also while its state is copied": (
            "migration::its_registers_can_be_read_and_written",
        ),
    },
    "REGION_WRITE_MULTI": {
        "only if it was agreed on": (
            "message_region::many_writes_have_to_be_negotiated",
            "engine_server::write_multi_is_cold_unless_negotiated",
        ),
        "lengths that do not add up, more than 8 bytes: refused before the first is done": (
            "message_region::bad_many_writes_are_refused_and_change_nothing",
        ),
        "the answer is how many were done": (
            "message_region::many_writes_in_one_message",
            "message_region::many_writes_stop_at_the_first_that_fails_and_say_how_many_were_done",
        ),
    },
    "DEVICE_RESET": {
        "no payload": ("message_reset::a_payload_is_refused",),
        "registers go back, mappings and eventfds stay": (
            "message_reset::registers_and_config_space_go_back_to_reset_values",
            "message_reset::memory_and_eventfds_stay",
        ),
        "done long before 5 s": ("message_reset::a_large_bar_is_reset_long_before_qemu_gives_up",),
        "the migration's state goes back too": ("migration::a_reset_ends_it_in_every_state",),
    },
    "from the device": {
        "copies stay inside mapped ranges and keep to their rights": (
            "engine_dma::a_copy_crosses_adjacent_ranges_and_stops_at_a_gap",
            "engine_dma::permissions_and_ranges_without_a_file",
            "engine_dma::bus_master_gates_every_copy",
        ),
        "DMA_READ and DMA_WRITE are as long as the client takes, and QEMU answers": (
            "engine_peer::a_mebibyte_goes_in_chunks",
            "engine_peer::chunks_are_no_longer_than_the_client_takes",
        ),
        "ids are the sender's own, and both sides may ask at once": (
            "engine_peer::the_guest_is_served_while_the_server_waits_for_it",
            "engine_peer::two_threads_may_ask_at_once_and_answers_may_come_in_any_order",
        ),
        "Error replies, missing, late and malformed ones": (
            "engine_peer::a_refusal_is_an_error_and_a_record",
            "engine_peer::a_missing_answer_is_waited_for_so_long_and_a_late_one_is_dropped",
            "engine_peer::a_malformed_answer_is_an_error_of_that_copy",
            "engine_server::an_answer_that_nobody_waits_for_is_dropped",
        ),
        "nothing is asked while the client waits for us": (
            "engine_peer::the_serving_thread_is_refused_at_once",
            "engine_peer::an_unmap_does_not_wait_for_answers_and_ends_the_copy",
        ),
        "the same two from a client are refused": (
            "message_reset::what_is_not_served_is_refused_and_the_guest_goes_on",
        ),
    },
    "features and migration": {
        "MIG_DATA_READ and MIG_DATA_WRITE out of turn are refused": (
            "message_reset::what_is_not_served_is_refused_and_the_guest_goes_on",
            "message_feature::there_is_nothing_to_read_in_other_states",
            "message_feature::nothing_may_be_written_in_other_states",
        ),
        "DEVICE_FEATURE: get, set, probe": (
            "message_feature::a_probe_tells_what_there_is_and_echoes_the_question",
            "message_feature::flags_that_ask_nothing_or_too_much_are_refused",
            "message_feature::what_a_feature_cannot_do_is_refused",
            "message_feature::an_answer_that_has_no_room_tells_how_much_it_needs",
            "message_feature::setting_a_state_echoes_it",
        ),
        "states and their transitions": (
            "migration::the_way_from_each_state_to_each_other",
            "migration::nothing_leads_to_the_error_state_or_out_of_it",
            "migration::broken_data_is_an_error_that_only_a_reset_leaves",
        ),
        "migration data, and what is answered while stopped": (
            "message_feature::a_read_is_shorter_than_asked_for_only_at_the_end",
            "message_feature::a_write_is_answered_without_a_payload",
            "migration::everything_else_is_refused",
            "migration::its_registers_can_be_read_and_written",
        ),
        "dirty pages: any page size, zeros outside the range, only while logging": (
            "message_feature::a_report_may_have_other_pages_than_the_log",
            "message_feature::bits_behind_the_range_are_zero",
            "message_feature::there_is_no_report_before_the_start_or_after_the_stop",
        ),
    },
    "the end and the rest": {
        "a client that goes, at any byte, leaves no memory and no eventfd, and the device's state": (
            "message_dma::memory_of_a_client_that_left_is_closed",
            "message_set_irqs::eventfds_of_a_client_that_left_are_closed",
            "garbage::a_client_that_dies_at_any_byte_leaves_a_server_that_listens",
            "engine_server::maps_and_eventfds_are_gone_when_the_client_is_and_bytes_stay",
            "server::clients_come_and_go_and_the_state_stays",
        ),
        "the next client is served": (
            "garbage::a_second_client_waits_until_the_first_is_gone",
            "message_header::a_client_that_shuts_down_inside_a_message_is_let_go",
        ),
        "anything may come": (
            "garbage::random_bytes",
            "garbage::well_framed_messages_with_any_payload",
        ),
        "standard streams may be closed, descriptor 0 is as good as any": (
            "message_machine::a_process_without_standard_streams_serves_as_any_other",
            "message_machine::a_descriptor_0_is_a_descriptor",
        ),
        "SIGTERM ends the server in good order, and its socket is where one wants it": (
            "cli::serve_shows_the_log_takes_edits_and_ends_cleanly",
            "server::a_path_of_the_users_own",
        ),
    },
}

NAMED = sorted({name for rows in CHECKLIST.values() for tests in rows.values() for name in tests})


@lru_cache
def functions(file: str) -> set[str]:
    """Return the names of the functions in ``tests/test_FILE.py``; empty when there is no such file."""
    path = TESTS / f"test_{file}.py"
    tree = ast.parse(path.read_text() if path.exists() else "")
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", NAMED)
def test_each_test_that_the_checklist_names_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"test_{function}" in functions(file)


def test_each_row_names_a_test() -> None:
    rows = {row: tests for section in CHECKLIST.values() for row, tests in section.items()}
    assert [row for row, tests in rows.items() if not isinstance(tests, tuple) or not tests] == []


def test_each_message_test_proves_a_row_or_is_of_a_file_that_has_rows() -> None:
    used = {name.partition("::")[0] for name in NAMED}
    files = {path.stem.removeprefix("test_") for path in TESTS.glob("test_message_*.py")}
    assert files <= used
