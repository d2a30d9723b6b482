//! Readers that sleep while the connection moves under them.

scenarios! { "readers":
    active_recv[1], passive_recv[1], active_recv_dup[1], passive_recv_dup[1], active_poll[1], passive_poll[1],
    active_select[1], passive_select[1], active_epoll[1], passive_epoll[1], active_epoll_edge[1],
    passive_epoll_edge[1], active_epoll_oneshot[1], passive_epoll_oneshot[1], active_nested_epoll[1],
    passive_nested_epoll[1], active_poll_on_epoll[1], passive_poll_on_epoll[1], active_waitall[1],
    passive_waitall[1], active_peek[1], passive_peek[1],
}
