//! Programs without the library, which are given a connection that has moved.

scenarios! { "backs":
    inetd[2], both_ways[1], full[1], half_closed[3], spawned[2], fails[1], both_replaced[3], duplex[4],
}
