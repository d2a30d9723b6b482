/* The two programs: the connections between them, and what one tells the other to do. Runs as
 * `PROGRAM acts|peer server|client PORT`. */
#include "ends.h"

#include <sys/un.h>

enum op {
    OPEN, WARM, SEND, SEND_PATTERN, OOB, SHUTDOWN, CLOSE, RESET, FILL, TAKE, DRAIN, READ, WAIT_READ, POLL, PENDING, NOTHING,
    ECHO, DIE, EXCHANGE, SLEEP,
};

struct order {
    enum op op;
    int id, delay;
    long argument;
    char bytes[256];
};

struct answer {
    long result;
    int error;
    char bytes[256];
};

#define MOST (1 << 16)
#define CHUNK (1 << 16)
#define ROUNDS 12

static int side = -1, listening = -1, port, delay;
static bool server;
/* The peer's ends, by this side's descriptors; and how far into the pattern each is. */
static int ends[MOST];
static long taken[MOST], given[MOST];

struct sockaddr_in address(void)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int listener(void) { return listening; }
bool is_server(void) { return server; }

/* ---- both ends */

static void whole(int fd, char *bytes, size_t count, bool sends)
{
    for (size_t done = 0; done < count;) {
        long part = sends ? send(fd, bytes + done, count - done, MSG_NOSIGNAL) : recv(fd, bytes + done, count - done, 0);
        must(part > 0, sends ? "warming: send" : "warming: recv");
        done += part;
    }
}

static void converse(int fd, bool begins, int rounds)
{
    char request[] = "a request", reply[] = "its reply";
    for (int round = 0; round < rounds; round++) {
        whole(fd, begins ? request : reply, sizeof request, begins);
        whole(fd, begins ? reply : request, sizeof request, !begins);
    }
}

/* Tells the harness that this socket moved if it can. */
static void claim(int fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    must(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0, "SO_COOKIE");
    fprintf(stderr, "expected to move: %#llx\n", (unsigned long long)cookie);
}

static int open_end(void)
{
    int fd;
    if (server) {
        fd = accept(listening, NULL, NULL);
    } else {
        struct sockaddr_in to = address();
        fd = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    }
    int on = 1;
    must(fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "a connection");
    return fd;
}

/* ---- the peer */

static long take(int id, long count)
{
    char chunk[CHUNK];
    long right = 0;
    while (right < count) {
        long got = recv(ends[id], chunk, count - right < CHUNK ? count - right : CHUNK, 0);
        if (got <= 0 || matching(chunk, taken[id], got) != (size_t)got)
            return got < 0 ? -1 : right;
        taken[id] += got;
        right += got;
    }
    return right;
}

static long send_pattern(int id, long count)
{
    char chunk[CHUNK];
    for (long sent = 0; sent < count;) {
        long part = count - sent < CHUNK ? count - sent : CHUNK;
        pattern(chunk, given[id], part);
        part = send(ends[id], chunk, part, MSG_NOSIGNAL);
        if (part < 0)
            return sent ? sent : -1;
        given[id] += part;
        sent += part;
    }
    return count;
}

static long echo(int fd, long count)
{
    char chunk[CHUNK];
    for (long done = 0; done < count;) {
        long got = recv(fd, chunk, sizeof chunk, 0);
        if (got <= 0)
            return got < 0 ? -1 : done;
        whole(fd, chunk, got, true);
        done += got;
    }
    return count;
}

static long sleep_in(int fd, enum sleep in)
{
    unsigned all = POLLIN | POLLPRI | POLLRDHUP;
    struct epoll_event event = {.events = all | EPOLLET};
    struct pollfd entry = {fd, all, 0};
    char byte;
    if (in == IN_RECV)
        return recv(fd, &byte, 1, MSG_PEEK);
    if (in == IN_POLL)
        return poll(&entry, 1, SOON);
    int set = epoll_create1(0);
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    long woken = epoll_wait(set, &event, 1, SOON);
    close(set);
    return woken;
}

static long obey(const struct order *order, struct answer *answer)
{
    int id = order->id, fd = ends[id];
    long most = order->argument < (long)sizeof answer->bytes ? order->argument : (long)sizeof answer->bytes;
    struct linger linger = {1, 0};
    switch (order->op) {
    case OPEN:
        taken[id] = given[id] = 0;
        return ends[id] = open_end();
    case WARM:
        converse(fd, false, ROUNDS);
        claim(fd);
        return 0;
    case EXCHANGE: converse(fd, false, order->argument); return 0;
    case SEND: return send(fd, order->bytes, order->argument, MSG_NOSIGNAL);
    case SEND_PATTERN: return send_pattern(id, order->argument);
    case OOB: return send(fd, order->bytes, order->argument, MSG_OOB | MSG_NOSIGNAL);
    case SHUTDOWN: return shutdown(fd, order->argument);
    case RESET: setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger); /* fall through */
    case CLOSE: return close(fd);
    case FILL: return fill_from(fd, &given[id]);
    case TAKE: return take(id, order->argument);
    case DRAIN: return drain(fd);
    case READ: return recv(fd, answer->bytes, most, MSG_DONTWAIT);
    case WAIT_READ: return recv(fd, answer->bytes, most, 0);
    case POLL: return looked(fd, 0);
    case PENDING: return pending(fd);
    case SLEEP: return sleep_in(fd, order->argument);
    case ECHO: return echo(fd, order->argument);
    case NOTHING: return 0;
    case DIE: kill(getpid(), SIGKILL); return 0;
    }
    return -1;
}

static void be_peer(void)
{
    struct order order;
    while (recv(side, &order, sizeof order, 0) == sizeof order) {
        struct answer answer = {0};
        if (order.delay) {
            must(send(side, &answer, sizeof answer, 0) == sizeof answer, "an answer");
            nap(order.delay);
            obey(&order, &answer);
            continue;
        }
        answer.result = obey(&order, &answer);
        answer.error = errno;
        must(send(side, &answer, sizeof answer, 0) == sizeof answer, "an answer");
    }
}

/* ---- asking the peer */

void later(int milliseconds) { delay = milliseconds; }

static struct answer hear(void)
{
    struct answer answer;
    long got;
    do
        got = recv(side, &answer, sizeof answer, 0);
    while (got < 0 && errno == EINTR);
    must(got == sizeof answer, "the peer's answer");
    errno = answer.error;
    return answer;
}

static void tell(enum op op, int fd, long argument, const char *bytes)
{
    struct order order = {.op = op, .id = fd, .delay = delay, .argument = argument};
    delay = 0;
    if (bytes)
        memcpy(order.bytes, bytes, argument);
    must(send(side, &order, sizeof order, 0) == sizeof order, "an order");
}

static long ask(enum op op, int fd, long argument, const char *bytes)
{
    tell(op, fd, argument, bytes);
    return hear().result;
}

static const char *ask_text(enum op op, int fd, long argument)
{
    tell(op, fd, argument, NULL);
    struct answer answer = hear();
    return text(answer.result, answer.bytes);
}

long peer_send(int fd, const char *bytes) { return ask(SEND, fd, strlen(bytes), bytes); }
long peer_send_pattern(int fd, long count) { return ask(SEND_PATTERN, fd, count, NULL); }
long peer_oob(int fd, const char *bytes) { return ask(OOB, fd, strlen(bytes), bytes); }
long peer_shutdown(int fd, int how) { return ask(SHUTDOWN, fd, how, NULL); }
long peer_close(int fd) { return ask(CLOSE, fd, 0, NULL); }
long peer_reset(int fd) { return ask(RESET, fd, 0, NULL); }
long peer_fill(int fd) { return ask(FILL, fd, 0, NULL); }
long peer_take(int fd, long count) { return ask(TAKE, fd, count, NULL); }
long peer_drain(int fd) { return ask(DRAIN, fd, 0, NULL); }
long peer_echo(int fd, long count) { return ask(ECHO, fd, count, NULL); }
unsigned peer_poll(int fd) { return ask(POLL, fd, 0, NULL); }
int peer_pending(int fd) { return ask(PENDING, fd, 0, NULL); }
const char *peer_read(int fd, long count) { return ask_text(READ, fd, count); }
const char *peer_wait_read(int fd, long count) { return ask_text(WAIT_READ, fd, count); }
void peer_sleeps(int fd, enum sleep in)
{
    later(1);
    ask(SLEEP, fd, in, NULL);
    nap(QUIET);
}

void peer_done(void) { ask(NOTHING, 0, 0, NULL); }
void peer_die(void) { tell(DIE, 0, 0, NULL); }

int fresh(void)
{
    /* The peer keys its end by this side's descriptor: the lowest free one is what accept and socket answer. */
    int id = dup(side);
    close(id);
    must(id < MOST, "few descriptors");
    tell(OPEN, id, 0, NULL);
    int fd = open_end();
    must(hear().result >= 0 && fd == id, "the same connection");
    return fd;
}

void exchange(int fd, int rounds)
{
    tell(EXCHANGE, fd, rounds, NULL);
    converse(fd, true, rounds);
    hear();
}

void warm(int fd)
{
    tell(WARM, fd, 0, NULL);
    converse(fd, true, ROUNDS);
    claim(fd);
    hear();
}

int moved(void)
{
    int fd = fresh();
    warm(fd);
    return fd;
}

/* ---- the two programs */

static void meet(void)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX, .sun_path = "side"};
    struct sockaddr_in here = address();
    int on = 1, side_listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (!server) {
        must(connect(side_listener, (struct sockaddr *)&where, sizeof where) == 0, "the side channel");
        side = side_listener;
        return;
    }
    must(bind(side_listener, (struct sockaddr *)&where, sizeof where) == 0 && listen(side_listener, 1) == 0, "the side");
    listening = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    must(bind(listening, (struct sockaddr *)&here, sizeof here) == 0 && listen(listening, 512) == 0, "listen");
    side = accept(side_listener, NULL, NULL);
    close(side_listener);
    must(side >= 0, "the side channel");
}

int main(int count, char **words)
{
    name = strrchr(words[0], '/') ? strrchr(words[0], '/') + 1 : words[0];
    if (count > 4)
        _exit(2);
    must(count == 4, "PROGRAM acts|peer server|client PORT");
    server = strcmp(words[2], "server") == 0;
    port = atoi(words[3]);
    meet();
    if (strcmp(words[1], "peer") == 0)
        be_peer();
    else
        subject();
    return 0;
}
