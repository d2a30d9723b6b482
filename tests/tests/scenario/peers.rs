//! Many peers, and many connections that meet one at the same time.

scenarios! { "peers":
    many_servers[20], threads_meet[60],
}
