//! Processes, and descriptors, that share a connection.

scenarios! { "forks":
    accept_then_fork[3], shared_before[1], shared_after[1], parent_closes[1], child_sleeps[1],
    exits_without_closing[1], duplicates[1], handshake_meets_fork[20],
    child_of_a_sleeper[1], terminal[1], exit_in_handler[40], killed_child[1],
}
