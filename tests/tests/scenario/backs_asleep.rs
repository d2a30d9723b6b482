//! Who waits for a connection that is given to a program without the library.

scenarios! { "backs_asleep":
    poll[4], epoll[6], edges[2], shared[1], siblings[1],
}
