/* How a connection ends, or its messages do. */
#define _GNU_SOURCE
#include "moved.h"

#include <errno.h>
#include <linux/kcm.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void show_end(int kcm, int tcp)
{
    for (long i = 0; i < 3; i++)
        expect(kcm, i, 2000);
    printf("end: polls %x\n", polls(tcp, 0, patience) & (POLLERR | POLLHUP));
    printf("all bits %x\n", polls_until(tcp, POLLIN | POLLOUT | POLLRDHUP, POLLIN | POLLOUT | POLLRDHUP));
    printf("error %d, then %d\n", error_of(tcp), error_of(tcp));
    printf("all bits %x\n", polls(tcp, POLLIN | POLLOUT | POLLRDHUP, 0));
    printf("kcm polls %x\n", polls(kcm, POLLIN | POLLOUT, 50));
}

void peer_closes(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    for (long i = 0; i < 3; i++)
        CHECK(ask(&peer, SAY, i, 2000) == 0);
    CHECK(ask(&peer, CLOSE, 0, 0) == 0);
    show_end(kcm, peer.tcp);
    CHECK(unattach(kcm, peer.tcp) == 0);
    printf("read %zd\n", read(peer.tcp, buffer, 10));
}

void peer_shuts(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 0, &peer);
    for (long i = 0; i < 3; i++)
        CHECK(ask(&peer, SAY, i, 2000) == 0);
    CHECK(ask(&peer, SHUT, SHUT_WR, 0) == 0);
    show_end(kcm, peer.tcp);
    say(kcm, 5, 3000);
    printf("it hears %ld\n", ask(&peer, HEAR, 5, 3000));
    CHECK(ask(&peer, CLOSE, 0, 0) == 0);
    CHECK(polls(peer.tcp, 0, 50) == 0);
    printf("closed: error %d, all bits %x\n", error_of(peer.tcp), polls(peer.tcp, POLLIN | POLLOUT | POLLRDHUP, 0));
}

void peer_is_killed(void)
{
    for (int unread = 0; unread < 2; unread++) {
        struct peer peer;
        int kcm = attached(SOCK_DGRAM, 1, &peer);
        if (unread)
            say(kcm, 1, 4000);
        for (long i = 0; i < 3; i++)
            CHECK(ask(&peer, SAY, i, 2000) == 0);
        /* What the kernel had to hold back for want of an acknowledgement would die with the peer, and unread bytes too. */
        for (int turn = 0; ask(&peer, UNSENT, 0, 0) > 0 && turn < patience; turn++)
            usleep(1000);
        CHECK(queued_falls_to(peer.tcp, 0) == 0);
        kill_peer(&peer);
        show_end(kcm, peer.tcp);
    }
}

void unattaches(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    CHECK(ask(&peer, SAY, 1, 3000) == 0);
    expect(kcm, 1, 3000);
    int disable = 1;
    CHECK(setsockopt(kcm, SOL_KCM, KCM_RECV_DISABLE, &disable, sizeof disable) == 0);
    for (long i = 0; i < 4; i++)
        CHECK(ask(&peer, SAY, i, 3000) == 0);
    printf("%d bytes are left\n", queued_falls_to(peer.tcp, 9000));
    CHECK(unattach(kcm, peer.tcp) == 0);
    printf("%d bytes are left, polls %x\n", queued(peer.tcp), polls(peer.tcp, POLLIN | POLLOUT, 0));
    for (long i = 1; i < 4; i++)
        CHECK(recv(peer.tcp, buffer, 3000, MSG_WAITALL) == 3000 && is_message(buffer, i, 3000));
    printf("recv %zd %d\n", recv(peer.tcp, buffer, 1, MSG_DONTWAIT), errno);
    tell(&peer, SAY, 9, 3000);
    printf("polls %x\n", polls(peer.tcp, POLLIN, patience));
    CHECK(recv(peer.tcp, buffer, 3000, MSG_WAITALL) == 3000 && is_message(buffer, 9, 3000) && answer(&peer) == 0);
    fill(buffer, 4, 500);
    CHECK(send(peer.tcp, buffer, 500, 0) == 500 && ask(&peer, HEAR, 4, 500) == 1);
    int again = kcm_socket(SOCK_DGRAM);
    CHECK(attach(again, peer.tcp) == 0 && ask(&peer, SAY, 5, 3000) == 0);
    expect(again, 5, 3000);
    printf("and attached again\n");
}

void parser_fails(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    CHECK(ask(&peer, SAY, 1, 3000) == 0);
    tell(&peer, SAY, 2, 2 << 20);
    expect(kcm, 1, 3000);
    printf("polls %x\n", polls(peer.tcp, 0, patience));
    printf("bits %x, error %d\n", polls(peer.tcp, POLLIN | POLLOUT, 0), error_of(peer.tcp));
    CHECK(recv(peer.tcp, buffer, 2 << 20, MSG_WAITALL) == 2 << 20 && is_message(buffer, 2, 2 << 20));
    CHECK(answer(&peer) == 0);
    say(kcm, 3, 3000);
    CHECK(ask(&peer, HEAR, 3, 3000) == 1);
    printf("the rest is raw\n");
}

void takes_too_long(void)
{
    struct peer peer = peer_of(1, 200000);
    int kcm = kcm_socket(SOCK_DGRAM);
    struct timeval time = {0, 200000};
    CHECK(setsockopt(peer.tcp, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    CHECK(attach(kcm, peer.tcp) == 0);
    CHECK(ask(&peer, MUTTER, 7, 90000) == 0);
    printf("polls %x\n", polls(peer.tcp, 0, patience));
    printf("error %d\n", error_of(peer.tcp));
}

/* The program reads, writes and shuts the attached socket down itself. */
void raw(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    fill(buffer, 1, 3000);
    CHECK(write(peer.tcp, buffer, 3000) == 3000);
    CHECK(ask(&peer, HEAR, 1, 3000) == 1);
    say(kcm, 2, 3000);
    CHECK(ask(&peer, HEAR, 2, 3000) == 1);
    printf("read %zd %d\n", recv(peer.tcp, buffer, 100, MSG_DONTWAIT), errno);
    CHECK(shutdown(peer.tcp, SHUT_WR) == 0);
    printf("it reads %ld\n", ask(&peer, ENDED, 0, 0));
    printf("error %d\n", error_of(peer.tcp));
    CHECK(ask(&peer, SAY, 5, 3000) == 0);
    expect(kcm, 5, 3000);
    close(kcm);
    kcm = attached(SOCK_DGRAM, 0, &peer);
    CHECK(shutdown(peer.tcp, SHUT_RD) == 0);
    printf("error %d\n", error_of(peer.tcp));
    CHECK(ask(&peer, SAY, 6, 3000) == 0);
    expect(kcm, 6, 3000);
    say(kcm, 7, 3000);
    CHECK(ask(&peer, HEAR, 7, 3000) == 1);
}

/* A connection that the peer leaves at once, with its bytes on the way. */
void leaves(void)
{
    for (int i = 0; i < 20; i++) {
        struct peer peer = peer_of(i % 2, 200000);
        int kcm = kcm_socket(SOCK_DGRAM);
        for (long n = 0; n < 3; n++)
            CHECK(ask(&peer, SAY, n, 4000) == 0);
        CHECK(ask(&peer, CLOSE, 0, 0) == 0);
        CHECK(attach(kcm, peer.tcp) == 0);
        for (long n = 0; n < 3; n++)
            expect(kcm, n, 4000);
        close(kcm);
        close(peer.tcp);
        close(peer.orders);
    }
    printf("all came\n");
}
