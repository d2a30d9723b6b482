//! epoll sets across the change-over and after it.

scenarios! { "sets":
    edges[3], oneshot[1], two_sets[1], writable_edge[1], many[300], boundary[4], again_when_modified[1],
    one_at_a_time[1], late[1], nested_late[1], duplicate_closed[1], end_behind_tcp[1],
}
