//! epoll sets that threads, or forked processes, share.

scenarios! { "sharing_sets":
    threads_in_one_set[2], first_one[1], set_of_the_parent[2], set_with_two_descriptors[1],
}
