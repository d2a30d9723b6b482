//! Programs that hand a connection to the next one.

scenarios! { "execs":
    moved[1], moves_later[1], active_end[1], fails[2], sleeper[1], listener[2],
    inetd_python[1], inetd_shell[1], inetd_buffered[1], inetd_stdio[1], moved_to_stdio[1], stdio_at_exit[3], printed[1], spawned[2], spawned_beside[1], spawned_often[1],
}
