/* Messages of all sizes, in parts and in floods, and who hears of them. */
#define _GNU_SOURCE
#include "moved.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const size_t sizes[] = {5, 6, 63, 64, 100, 1500, 4096, 5000, 16380, 16384, 16388, 40000, 65536, 131072, 300000};

void sizes_in(void)
{
    for (int connects = 0; connects < 2; connects++) {
        struct peer peer;
        int kcm = attached(connects ? SOCK_SEQPACKET : SOCK_DGRAM, connects, &peer);
        long number = 0;
        for (int round = 0; round < 3; round++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++, number++) {
                tell(&peer, SAY, number, (long)sizes[i]);
                expect(kcm, number, sizes[i]);
                CHECK(answer(&peer) == 0);
            }
        printf("%ld messages came\n", number);
    }
}

void sizes_out(void)
{
    for (int connects = 0; connects < 2; connects++) {
        struct peer peer;
        int kcm = attached(connects ? SOCK_SEQPACKET : SOCK_DGRAM, connects, &peer);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            say(kcm, (long)i, sizes[i]);
            CHECK(ask(&peer, HEAR, (long)i, (long)sizes[i]) == 1);
        }
        say(kcm, 100, 3 << 20);
        CHECK(ask(&peer, HEAR, 100, 3 << 20) == 1);
        printf("messages went out\n");
    }
}

/* A call that sleeps, and one that polls, hear of the message when it is whole, and not before. */
void parts(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    long cuts[] = {0, 2, 4, 5, 30000, 30001, 99999};
    for (size_t i = 0; i + 1 < sizeof cuts / sizeof *cuts; i++) {
        CHECK(ask(&peer, MUTTER, 7, cuts[i] << 32 | cuts[i + 1]) == 0);
        printf("%ld bytes: polls %d\n", cuts[i + 1], polls(kcm, POLLIN, 30));
    }
    CHECK(ask(&peer, MUTTER, 7, 99999L << 32 | 100000) == 0);
    expect(kcm, 7, 100000);
    for (int i = 0; i < 20; i++) {
        tell(&peer, SAY, i, 1000);
        CHECK(recv(kcm, buffer, sizeof buffer, 0) == 1000 && is_message(buffer, i, 1000));
        CHECK(answer(&peer) == 0);
    }
    printf("and whole\n");
}

void floods(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    for (int round = 0; round < 3; round++) {
        long count = ask(&peer, FLOOD, 0, 3000);
        CHECK(count > 20);
        tell(&peer, FINISH, 0, 0);
        for (long i = 0; i <= count; i++)
            expect(kcm, i, 3000);
        CHECK(answer(&peer) == 0);
    }
    CHECK(recv(kcm, buffer, sizeof buffer, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    printf("all came\n");
}

/* The mux stops reading, since nobody receives; a peer that has waited for its ring for a second goes on over TCP. */
void stalls(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    for (int round = 0; round < 3; round++) {
        long count = ask(&peer, FLOOD, 0, 3000);
        tell(&peer, FINISH, 0, 0);
        if (round == 0)
            usleep(1500000);
        else
            printf("more than a ring: %d\n", count > 300);
        for (long i = 0; i <= count; i++)
            expect(kcm, i, 3000);
        CHECK(answer(&peer) == 0);
        say(kcm, round, 70000);
        CHECK(ask(&peer, HEAR, round, 70000) == 1);
    }
    tell(&peer, SAY, 7, 5);
    expect(kcm, 7, 5);
    CHECK(answer(&peer) == 0);
    CHECK(recv(kcm, buffer, sizeof buffer, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    CHECK(ask(&peer, CLOSE, 0, 0) == 0);
    printf("TCP: %x\n", polls_until(peer.tcp, POLLIN | POLLRDHUP, POLLERR) & POLLERR);
}

/* Sends until it would have to wait; then the peer reads. */
void fills(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 0, &peer), small = 20000;
    CHECK(setsockopt(kcm, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    for (int round = 0; round < 3; round++) {
        long count = 0, heard = 0;
        for (;; count++) {
            fill(buffer, count, 9000);
            if (send(kcm, buffer, 9000, MSG_DONTWAIT) < 0)
                break;
        }
        CHECK(errno == EAGAIN && count > 4);
        for (; heard < count / 2; heard++)
            CHECK(ask(&peer, HEAR, heard, 9000) == 1);
        /* These wait. */
        for (int i = 0; i < 100; i++, count++) {
            tell(&peer, HEAR, heard++, 9000);
            say(kcm, count, 9000);
            CHECK(answer(&peer) == 1);
        }
        for (; heard < count; heard++)
            CHECK(ask(&peer, HEAR, heard, 9000) == 1);
    }
    printf("all went out\n");
}

static void *wait_for_error(void *argument)
{
    return (void *)(long)polls(*(int *)argument, POLLIN | POLLRDHUP, patience);
}

static int next_of(int set, int milliseconds)
{
    struct epoll_event event = {.events = 0};
    int count = epoll_wait(set, &event, 1, milliseconds);
    return count == 1 ? (int)(event.data.u32 << 16 | (event.events & 0xffff)) : count;
}

/* Sets, level- and edge-triggered, with the KCM socket and the TCP socket. */
void epolls(void)
{
    struct peer peer = peer_of(1, 200000);
    int kcm = kcm_socket(SOCK_DGRAM);
    int level = epoll_create1(0), edge = epoll_create1(0), early = epoll_create1(0), late = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u32 = 1}}, of_tcp = {EPOLLIN | EPOLLRDHUP, {.u32 = 2}};
    CHECK(epoll_ctl(level, EPOLL_CTL_ADD, kcm, &event) == 0);
    event.events |= EPOLLET;
    CHECK(epoll_ctl(edge, EPOLL_CTL_ADD, kcm, &event) == 0);
    CHECK(epoll_ctl(early, EPOLL_CTL_ADD, peer.tcp, &of_tcp) == 0);
    CHECK(attach(kcm, peer.tcp) == 0);
    CHECK(epoll_ctl(late, EPOLL_CTL_ADD, peer.tcp, &of_tcp) == 0);
    for (long i = 0; i < 50; i++) {
        tell(&peer, SAY, i, 2000);
        int set = i % 2 ? level : edge;
        CHECK(next_of(set, patience) == (1 << 16 | EPOLLIN));
        expect(kcm, i, 2000);
        CHECK(answer(&peer) == 0);
    }
    while (next_of(edge, 0) > 0)
        ;
    CHECK(ask(&peer, MUTTER, 7, 50000) == 0);
    printf("half a message: %x %x", next_of(level, 30), next_of(edge, 30));
    printf(", TCP: %x %x\n", next_of(early, 30), next_of(late, 30));
    CHECK(ask(&peer, MUTTER, 7, 50000L << 32 | 100000) == 0);
    expect(kcm, 7, 100000);
    void *result;
    pthread_t thread = asleep_in(wait_for_error, &peer.tcp);
    CHECK(ask(&peer, CLOSE, 0, 0) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    printf("a thread: %lx\n", (long)result & POLLERR);
    printf("sets: %x %x\n", next_of(early, patience) & ~EPOLLIN, next_of(late, patience) & ~EPOLLIN);
}
