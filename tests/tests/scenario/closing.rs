//! Ends of connections: who hears of what, in every order.

scenarios! { "closing":
    close_clean_by_client[1], close_clean_by_server[1], close_after_sending_by_client[1],
    close_after_sending_by_server[1], close_with_unread_by_client[1], close_with_unread_by_server[1],
    close_with_half_read_by_client[1], close_with_half_read_by_server[1], close_crossing_by_client[1],
    close_crossing_by_server[1], linger_close_by_client[1], linger_close_by_server[1],
    shutdown_both_by_client[1], shutdown_both_by_server[1], halves_write_write[1], halves_server_first[1],
    halves_write_both[1], halves_read_write[1], halves_both_write[1], halves_twice[1], broken_pipe[1],
    sigpipe_kills[1], full_then_close[1], close_wakes_sender[1], shutdown_wakes[1],
    keeps_its_socket[1], killed_after_half_close[1], killed_unheard[1], shut_before_moving[1], duplicate_closed_under_sender[1],
}
