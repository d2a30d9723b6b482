//! epoll sets across the change-over and after it.

scenarios! { "sets":
    edges[1], oneshot[1], two_sets[1], writable_edge[1], many[300],
}
