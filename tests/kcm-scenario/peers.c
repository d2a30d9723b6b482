/* Peers that do not keep to the protocol. */
#define _GNU_SOURCE
#include "scenario.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A second connection of the mux, which has to go on. */
static int another(struct scene it)
{
    int near, far;
    connect_pair(&near, &far);
    attach(it.kcm, near, -1);
    return far;
}

static const char *error_of(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    for (int i = 0; i < 200 && error == 0; i++) {
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        wait_ms(5);
    }
    return error ? strerrorname_np(error) : "0";
}

static void huge_length(void)
{
    struct scene it = scene(SOCK_DGRAM);
    int far = another(it);
    static const unsigned char heads[][4] = {{0x7f, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xfc}, {0, 0xff, 0xff, 0xff}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        int near, hostile;
        connect_pair(&near, &hostile);
        attach(it.kcm, near, -1);
        send(hostile, heads[i], 4, 0);
        fact("SO_ERROR", "%s", error_of(near));
        char head[8] = {0};
        fact("left for raw reads", "%s", result(recv(near, head, sizeof head, MSG_DONTWAIT)));
        far_sends(far, 10 + i);
        fact("another connection", "%s", next_message(it.kcm));
        fact("unattach", "%s", result(ioctl(it.kcm, SIOCKCMUNATTACH, &(struct kcm_unattach){.fd = near})));
    }
}

static void trickle(void)
{
    struct scene it = scene(SOCK_SEQPACKET);
    int far = another(it);
    char message[104] = {0, 0, 0, 100};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof message; i++) {
            send(it.far, message + i, 1, 0);
            if (i % 20 == 0) {
                far_sends(far, 10);
                if (strcmp(next_message(it.kcm), "10") != 0)
                    fact("another connection", "waits");
            }
        }
        fact("message", "%s", next_message(it.kcm));
    }
}

static void reset_in_message(void)
{
    struct scene it = scene(SOCK_DGRAM);
    int far = another(it);
    char part[50] = {0, 0, 0, 100};
    far_sends(it.far, 20);
    send(it.far, part, sizeof part, 0);
    fact("message before it", "%s", next_message(it.kcm));
    setsockopt(it.far, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(it.far);
    wait_ms(50);
    fact("message in pieces", "%s", result(recv(it.kcm, part, sizeof part, MSG_DONTWAIT)));
    far_sends(far, 30);
    fact("another connection", "%s", next_message(it.kcm));
    for (int i = 0; i < 3; i++) {
        fact("send", "%s", result(send(it.kcm, part, sizeof part, MSG_EOR | MSG_NOSIGNAL)));
        fact("arrives", "%s", result(recv(far, part, sizeof part, 0)));
    }
    fact("unattach", "%s", result(ioctl(it.kcm, SIOCKCMUNATTACH, &(struct kcm_unattach){.fd = it.near})));
}

const struct scenario peer_scenarios[] = {
    {"huge-length", huge_length},
    {"trickle", trickle},
    {"reset-in-message", reset_in_message},
    {0},
};
