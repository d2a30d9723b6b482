/* The program with KCM sockets: a mux of each type, four sockets of each, a thread for every one. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { at_a_time = 16, in_one_write = 64, senders = 1 << 16, patience = 30000 };
/* A receiver's time-out: how often it looks whether all is over. */
static const struct timeval look = {.tv_usec = 200000};

struct receiver {
    struct mux *mux;
    int place, socket;
    uint32_t *last;
    uint64_t random;
    char *buffer, *out;
};

static struct mux made[muxes];
static int the_port;
static atomic_int is_over;

static int over(void)
{
    return is_over || board->worker_ends || board->failed;
}

/* Sends one message; false when it would have to wait. */
static int send_one(int socket, int id, char *buffer, int flags)
{
    if (board->to_peers >= board->messages)
        return 0;
    uint64_t number = board->to_peers++;
    if (number >= board->messages)
        return 0;
    size_t size = make_message(buffer, 1, (uint32_t)id, board->sequences[id]++, number);
    while (send(socket, buffer, size, MSG_EOR | flags) != (ssize_t)size) {
        if (errno == EAGAIN || errno == EINTR) {
            /* Its number is taken: it has to go. POLLOUT always holds. */
            nap(200);
        } else {
            fail("send: %s", strerror(errno));
            return 0;
        }
        if (board->failed)
            return 0;
    }
    return 1;
}

static void got(struct receiver *it, const char *bytes, size_t size, int flags)
{
    if (!(flags & MSG_EOR) || flags & MSG_TRUNC)
        fail("flags %x with %zu bytes", flags, size);
    got_message(bytes, size, 0, it->last, senders);
    it->random = hash(it->random);
    if (it->random % 4 == 0)
        send_one(it->socket, (int)(it->mux - made) * senders_of_mux + it->place, it->out,
                 it->random & 64 ? MSG_DONTWAIT : 0);
}

static void wait_for(int set, struct receiver *it)
{
    if (set < 0) {
        struct pollfd entry = {.fd = it->socket, .events = POLLIN};
        poll(&entry, 1, 200);
    } else {
        struct epoll_event event;
        epoll_wait(set, &event, 1, 200);
    }
}

static atomic_int *in_parts(const struct receiver *it)
{
    return &board->in_parts[(it->mux - made) * clones + it->place];
}

/* The receiver before this one was killed between the parts of a message, and this one's socket has the rest. */
static void discard_rest(struct receiver *it)
{
    while (*in_parts(it) && !over()) {
        struct iovec part = {it->buffer, limit + 16};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        wait_for(none, it);
        if (recvmsg(it->socket, &message, MSG_DONTWAIT) >= 0 && message.msg_flags & MSG_EOR)
            *in_parts(it) = 0;
    }
}

/* One message, now and then in parts. False when there was none. */
static int receive_one(struct receiver *it, int flags)
{
    size_t size = 0;
    it->random = hash(it->random);
    int parts = it->mux->type == SOCK_SEQPACKET && it->last && it->random % 8 == 0;
    *in_parts(it) = parts;
    for (;;) {
        size_t want = parts ? 1 + it->random % 3000 : limit + 16;
        if (want > limit + 16 - size)
            want = limit + 16 - size;
        struct iovec part = {it->buffer + size, want};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t n = recvmsg(it->socket, &message, flags);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                fail("recvmsg: %s", strerror(errno));
            if (size > 0)
                fail("%zu bytes without an end", size);
            *in_parts(it) = 0;
            return 0;
        }
        size += (size_t)n;
        if (message.msg_flags & MSG_EOR || !parts) {
            *in_parts(it) = 0;
            got(it, it->buffer, size, message.msg_flags);
            return 1;
        }
    }
}

static int receive_many(struct receiver *it, int flags)
{
    struct mmsghdr messages[at_a_time] = {0};
    struct iovec parts[at_a_time];
    for (int i = 0; i < at_a_time; i++) {
        parts[i] = (struct iovec){it->buffer + (size_t)i * (limit + 16), limit + 16};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int n = recvmmsg(it->socket, messages, at_a_time, flags, NULL);
    for (int i = 0; i < n; i++)
        got(it, parts[i].iov_base, messages[i].msg_len, messages[i].msg_hdr.msg_flags);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        fail("recvmmsg: %s", strerror(errno));
    return n > 0;
}

/* The receivers of a mux: blocking, blocking and many at a time, edge-triggered, and one whose socket is disabled now and
   then, which polls in one mux and uses a level-triggered set in the other. */
static void *receive(void *argument)
{
    struct receiver *it = argument;
    int kind = it->place, set = none;
    it->buffer = malloc(at_a_time * (limit + 16));
    it->out = malloc(limit);
    if (kind < 2) {
        setsockopt(it->socket, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof look);
    } else if (kind == 2 || it->mux == made) {
        struct epoll_event event = {.events = EPOLLIN | (kind == 2 ? EPOLLET : 0)};
        set = epoll_create1(0);
        epoll_ctl(set, EPOLL_CTL_ADD, it->socket, &event);
        fcntl(it->socket, F_SETFL, O_NONBLOCK);
    }
    discard_rest(it);
    while (!over()) {
        switch (kind) {
        case 0:
            receive_one(it, 0);
            break;
        case 1:
            receive_many(it, MSG_WAITFORONE);
            break;
        case 2:
            wait_for(set, it);
            while (receive_one(it, 0) && !over())
                ;
            break;
        default:
            wait_for(set, it);
            receive_many(it, MSG_DONTWAIT);
        }
    }
    free(it->buffer);
    free(it->out);
    return NULL;
}

static void *send_all(void *argument)
{
    struct mux *mux = argument;
    char *buffer = malloc(limit);
    int id = (int)(mux - made) * senders_of_mux + clones;
    while (!over() && send_one(mux->sender, id, buffer, 0))
        ;
    free(buffer);
    return NULL;
}

static void *change(void *argument)
{
    struct mux *mux = argument;
    uint64_t random = hash((uint64_t)(mux - made));
    while (!over() && board->to_worker < board->messages) {
        if (!(board->flags & without_churn))
            churn(mux, the_port, &random);
        if (board->flags & with_kills)
            look_for_errors(mux, the_port);
        nap(3000);
    }
    return NULL;
}

static pid_t fork_receiver(struct receiver *it)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        receive(it);
        _exit(0);
    }
    return pid;
}

/* Receivers as processes, which share the muxes. One is killed now and then, and another takes its place and its socket. */
static void *kill_receivers(void *argument)
{
    struct receiver *receivers = argument;
    pid_t running[muxes * clones];
    uint64_t random = receivers->random;
    for (int i = 0; i < muxes * clones; i++)
        running[i] = fork_receiver(&receivers[i]);
    while (!over() && board->to_worker < board->messages) {
        nap(50000);
        random = hash(random);
        int victim = (int)(random % (muxes * clones));
        kill(running[victim], SIGKILL);
        waitpid(running[victim], NULL, 0);
        board->kills++;
        running[victim] = fork_receiver(&receivers[victim]);
    }
    while (!over())
        nap(2000);
    board->worker_ends = 1;
    for (int i = 0; i < muxes * clones; i++)
        waitpid(running[i], NULL, 0);
    return NULL;
}

static void make_mux(struct mux *mux, int port)
{
    mux->type = mux == made ? SOCK_DGRAM : SOCK_SEQPACKET;
    mux->socket[0] = socket(AF_KCM, mux->type, KCMPROTO_CONNECTED);
    if (mux->socket[0] < 0)
        fail("socket: %s", strerror(errno));
    for (int i = 1; i < clones; i++)
        mux->socket[i] = clone_of(mux->socket[0]);
    mux->sender = clone_of(mux->socket[0]);
    setsockopt(mux->sender, SOL_KCM, KCM_RECV_DISABLE, &(int){1}, sizeof(int));
    for (int i = 0; i < connections_of_mux; i++)
        attach_new(mux, i, port);
}

/* Whether all that is to come has come; waits until then, or until nothing moves any more. */
static void wait_for_all(void)
{
    uint64_t before = 0, since = now_ms();
    int lossy = board->flags & (with_kills | with_forks);
    while (!board->failed) {
        uint64_t got = board->worker_got + board->peers_got, n = board->messages;
        uint64_t begun = (board->to_worker < n ? board->to_worker : n) + (board->to_peers < n ? board->to_peers : n);
        if (got != before)
            before = got, since = now_ms();
        if (begun == 2 * n && got + board->cut_off >= begun)
            break;
        if (now_ms() - since > (lossy && begun == 2 * n ? 3000 : patience)) {
            if (!lossy || begun < 2 * n)
                fail("nothing moves: %lu and %lu begun, %lu and %lu came", board->to_worker, board->to_peers,
                     board->worker_got, board->peers_got);
            break;
        }
        nap(2000);
    }
}

/* A process that is killed while it reads or writes a TCP socket for KCM leaves it unusable: EPIPE tells. */
static void look_for_broken(void)
{
    for (int i = 0; i < muxes * connections_of_mux; i++) {
        struct mux *mux = &made[i / connections_of_mux];
        int error = 0, place = i % connections_of_mux;
        socklen_t size = sizeof error;
        getsockopt(mux->tcp[place], SOL_SOCKET, SO_ERROR, &error, &size);
        if (error == EPIPE)
            board->connections[mux->id[place]].fate = dead;
    }
}

/* What did not come, and whether that may be: to the worker, what unattach cut off, and of a connection whose peer was
   killed, or that a killed receiver broke, all from some message on. A killed receiver may have had some in hand. */
static uint64_t check_lost(void)
{
    uint64_t lost = 0, in_hand = board->flags & with_forks ? board->kills * at_a_time : 0;
    static int64_t hole[most_connections];
    for (uint64_t number = 0; number < board->messages; number++) {
        int id = records[number].connection - 1;
        if (id < 0) {
            if (!(board->flags & with_kills) || arrived(0, number))
                fail("message %lu is nobody's", number);
            lost++;
            continue;
        }
        struct connection *connection = &board->connections[id];
        if (connection->fate == lives && board->peers[connection->peer].killed)
            connection->fate = dead;
        if (arrived(0, number)) {
            if (hole[id] && connection->fate == dead && !(board->flags & with_forks))
                fail("connection %d: message %lu came, and %lu before it did not", id, number, hole[id] - 1);
            continue;
        }
        lost++;
        if (!hole[id])
            hole[id] = (int64_t)number + 1;
        if (connection->fate == dead || connection->may_be_lost == (int64_t)number + 1)
            continue;
        if (in_hand > 0)
            in_hand--;
        else
            fail("message %lu of connection %d (fate %d) is lost", number, id, connection->fate);
    }
    return lost;
}

int run_worker(int port, uint64_t seed)
{
    static struct receiver receivers[muxes * clones];
    pthread_t threads[muxes * clones + 2 * muxes + 1];
    int n = 0;
    the_port = port;
    for (int m = 0; m < muxes; m++)
        make_mux(&made[m], port);
    for (int i = 0; i < muxes * clones; i++) {
        struct mux *mux = &made[i / clones];
        /* What is taken from a socket that is closed or disabled goes behind what others have: order holds without. */
        int ordered = mux == made || board->flags & without_churn;
        receivers[i] = (struct receiver){mux, i % clones, mux->socket[i % clones],
                                         ordered ? calloc(senders, sizeof(uint32_t)) : NULL,
                                         seed + (uint64_t)i, NULL, NULL};
        if (!(board->flags & with_forks))
            pthread_create(&threads[n++], NULL, receive, &receivers[i]);
    }
    if (board->flags & with_forks)
        pthread_create(&threads[n++], NULL, kill_receivers, receivers);
    for (int m = 0; m < muxes; m++) {
        pthread_create(&threads[n++], NULL, send_all, &made[m]);
        pthread_create(&threads[n++], NULL, change, &made[m]);
    }
    uint64_t start = now_ms();
    wait_for_all();
    is_over = 1;
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    uint64_t took = now_ms() - start;
    if (board->flags & with_forks)
        look_for_broken();
    uint64_t lost = board->failed ? 0 : check_lost(), missed = 0;
    for (uint64_t number = 0; number < board->messages; number++)
        missed += !arrived(1, number);
    board->peers_end = 1;
    printf("%lu messages to and %lu from KCM in %.1f s; %lu and %lu are lost; %lu connections, %lu sockets, %lu kills\n",
           board->worker_got, board->peers_got, (double)took / 1e3, lost, missed, board->attached, board->clones,
           board->kills);
    if (missed > (board->flags & with_forks ? board->kills * in_one_write : 0) && !(board->flags & with_kills))
        fail("lost on the way to the peers: %lu", missed);
    return board->failed;
}
