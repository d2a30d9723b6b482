//! Connections that are passed to other processes by SCM_RIGHTS.

scenarios! { "passing":
    pool[12], started[12], becomes[3], relay[1], killed[10], many_senders[100],
}
