/* Workers that share a mux are killed at random moments under load, and replaced: `killed SECONDS`.
 *
 * Four connections, whose other ends are processes without the mux, send numbered requests; four workers answer each. Half
 * of the workers receive on the parent's socket, half on clones of their own. Prints what came of it, and fails when a
 * connection is stopped or torn, when anything comes twice, or when more is lost than one message of a kill. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/kcm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef AF_KCM
#define AF_KCM 41
#endif

enum { connections = 4, workers = 4, longest = 1500, most = 1 << 21, last_round = 200, under_way = 40, greetings = 12 };

struct message {
    uint32_t length; /* of what comes behind it, in network order: for the parser */
    uint32_t mark;
    uint32_t connection;
    uint32_t number;
    char padding[longest];
};

enum { head = offsetof(struct message, padding), magic = 0x6b636d21 };
enum phase { flowing, quiet, finishing, ended };

static struct shared {
    atomic_int phase, broken;
    atomic_uint sent[connections], came[connections], answers[connections];
    /* What a worker is receiving into, or has received and not counted yet. */
    struct message slots[workers];
    atomic_uchar received[connections][most], answered[connections][most];
    /* Those that dead workers had in their hands. */
    atomic_uchar seized[connections][most];
} *shared;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void pause_for(long microseconds)
{
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&time, NULL);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static size_t fill(struct message *message, uint32_t connection, uint32_t number)
{
    size_t length = head + number * 37 % longest;
    message->length = htonl((uint32_t)(length - sizeof message->length));
    message->mark = magic;
    message->connection = connection;
    message->number = number;
    memset(message->padding, (int)('a' + number % 26), length - head);
    return length;
}

static int is_whole(const struct message *message, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    if (length != head + message->number * 37 % longest || message->mark != magic ||
        message->connection >= connections || message->number >= most)
        return 0;
    for (size_t i = 0; i < length - head; i++)
        if (message->padding[i] != letters[message->number % 26])
            return 0;
    return 1;
}

static void broken(const char *what, unsigned connection)
{
    fprintf(stderr, "connection %u: %s\n", connection, what);
    shared->broken++;
}

/* The other end of a connection. */

static int peer_socket;
static uint32_t peer_number;

static int read_all(void *to, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t got = read(peer_socket, (char *)to + done, length - done);
        if (got <= 0)
            return 0;
        done += (size_t)got;
    }
    return 1;
}

static void *read_answers(void *unused)
{
    static struct message message;
    while (read_all(&message, head)) {
        size_t rest = ntohl(message.length) + sizeof message.length - head;
        if (rest > longest || !read_all(message.padding, rest) || !is_whole(&message, head + rest)) {
            broken("torn answers", peer_number);
            return unused;
        }
        shared->answered[message.connection][message.number]++;
        shared->answers[peer_number]++;
    }
    if (shared->phase != ended)
        broken("no more answers", peer_number);
    return unused;
}

static void send_request(uint32_t number)
{
    static struct message message;
    size_t length = fill(&message, peer_number, number);
    for (size_t done = 0; done < length;) {
        ssize_t sent = send(peer_socket, (char *)&message + done, length - done, MSG_NOSIGNAL);
        if (sent <= 0) {
            broken("no more requests", peer_number);
            pthread_exit(NULL);
        }
        done += (size_t)sent;
    }
    shared->sent[peer_number] = number + 1;
}

/* Small messages back and forth, after which the connection has moved to shared memory, if it is to. */
static int greet(int tcp)
{
    for (int i = 0; i < greetings; i++) {
        char byte = 0;
        if (write(tcp, &byte, 1) != 1 || read(tcp, &byte, 1) != 1)
            return -1;
    }
    return 0;
}

static void be_peer(const struct sockaddr_in *address)
{
    pthread_t reader;
    uint32_t number = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    peer_socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(peer_socket, (const void *)address, sizeof *address) < 0 || greet(peer_socket) < 0)
        die("a connection");
    pthread_create(&reader, NULL, read_answers, NULL);
    /* TCP sockets that are full are another matter: a worker that dies with a part of a message stops its connection. */
    for (unsigned quiet_rounds = 0, came = 0, lost = 0; shared->phase == flowing; pause_for(200)) {
        quiet_rounds = came == shared->came[peer_number] ? quiet_rounds + 1 : 0;
        came = shared->came[peer_number];
        if (quiet_rounds == 200)
            lost = number - came;
        while (number < came + lost + under_way && number < most - last_round)
            send_request(number++);
    }
    while (shared->phase < finishing)
        pause_for(1000);
    for (int i = 0; i < last_round; i++)
        send_request(number++);
    while (shared->phase < ended)
        pause_for(1000);
    _exit(0);
}

/* Workers. */

static void count(const struct message *message, size_t length)
{
    if (!is_whole(message, length))
        broken("a torn request", message->connection);
    else
        shared->received[message->connection][message->number]++;
    shared->came[message->connection % connections]++;
}

/* Calls that wait look after the phase from time to time. */
static void let_calls_end(int kcm)
{
    struct timeval wait = {0, 50000};
    if (setsockopt(kcm, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0)
        die("SO_RCVTIMEO");
}

static void work(int kcm, int place)
{
    struct message *slot = &shared->slots[place], answer;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (place % 2) {
        struct kcm_clone clone;
        if (ioctl(kcm, SIOCKCMCLONE, &clone) < 0)
            die("clone");
        kcm = clone.fd;
        let_calls_end(kcm);
    }
    while (shared->phase != ended) {
        struct pollfd entry = {kcm, POLLIN, 0};
        if (place % 4 >= 2)
            poll(&entry, 1, 50);
        ssize_t got = recv(kcm, slot, sizeof *slot, place % 4 >= 2 ? MSG_DONTWAIT : 0);
        if (got < 0 && errno == EAGAIN)
            continue;
        if (got < 0)
            die("recv");
        count(slot, (size_t)got);
        size_t length = fill(&answer, slot->connection, slot->number);
        slot->mark = 0;
        if (send(kcm, &answer, length, 0) != (ssize_t)length)
            die("send");
    }
    _exit(0);
}

static pid_t start_worker(int kcm, int place)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        work(kcm, place);
    return pid;
}

/* What a dead worker had got, and had no time to count. */
static void bury(pid_t pid, int place)
{
    struct message *slot = &shared->slots[place];
    if (waitpid(pid, NULL, 0) != pid)
        die("waitpid");
    if (slot->mark == magic && slot->connection < connections && slot->number < most)
        shared->seized[slot->connection][slot->number] = 1;
    slot->mark = 0;
}

/* Starts a peer. Answers this end of its connection. Those made before are none of its business. */
static int start_peer(const int tcp[], uint32_t number)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, length) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (void *)&address, &length) < 0)
        die("a listener");
    if (fork() == 0) {
        for (uint32_t i = 0; i < number; i++)
            close(tcp[i]);
        close(listener);
        peer_number = number;
        be_peer(&address);
    }
    int end = accept(listener, NULL, NULL);
    if (end < 0 || greet(end) < 0)
        die("a connection");
    close(listener);
    return end;
}

static unsigned total(atomic_uint counts[connections])
{
    unsigned sum = 0;
    for (int i = 0; i < connections; i++)
        sum += counts[i];
    return sum;
}

/* How many requests of a connection came, or were answered, exactly as often. */
static unsigned that_came(atomic_uchar came[connections][most], unsigned from_end, unsigned char times)
{
    unsigned sum = 0;
    for (int i = 0; i < connections; i++)
        for (unsigned n = from_end ? shared->sent[i] - from_end : 0; n < shared->sent[i]; n++)
            sum += came[i][n] == times;
    return sum;
}

static unsigned kill_workers(int kcm, pid_t pids[workers], double until)
{
    unsigned kills = 0;
    while (now() < until && shared->broken == 0) {
        int place = rand() % workers;
        pause_for(rand() % 6000);
        kill(pids[place], kills % 4 == 3 ? SIGTERM : SIGKILL);
        bury(pids[place], place);
        kills++;
        pids[place] = start_worker(kcm, place);
    }
    return kills;
}

/* The last round comes through whole, and each connection takes answers of it. */
static void check_all_live(const int tcp[connections])
{
    unsigned before[connections], sent = total(shared->sent) + connections * last_round;
    for (int i = 0; i < connections; i++)
        before[i] = shared->answers[i];
    shared->phase = finishing;
    double until = now() + 10;
    while (now() < until && (total(shared->sent) < sent ||
                             that_came(shared->received, last_round, 1) < connections * last_round ||
                             that_came(shared->answered, last_round, 1) < connections * last_round))
        pause_for(10000);
    unsigned missing = connections * last_round - that_came(shared->received, last_round, 1);
    if (missing)
        fprintf(stderr, "%u requests of the last round did not come\n", missing), shared->broken++;
    for (int i = 0; i < connections; i++) {
        int error = 0;
        socklen_t length = sizeof error;
        if (shared->answers[i] == before[i])
            broken("took no answer at the end", (unsigned)i);
        if (getsockopt(tcp[i], SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error)
            broken(strerror(error), (unsigned)i);
    }
}

int main(int argc, char **argv)
{
    int tcp[connections];
    pid_t pids[workers];
    static struct message message;
    ssize_t got;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (argc != 2 || shared == MAP_FAILED)
        die("usage: killed SECONDS");
    for (int i = 0; i < connections; i++)
        tcp[i] = start_peer(tcp, (uint32_t)i);
    int kcm = socket(AF_KCM, SOCK_DGRAM, KCMPROTO_CONNECTED);
    if (kcm < 0)
        die("a KCM socket");
    let_calls_end(kcm);
    for (int i = 0; i < connections; i++) {
        struct kcm_attach attach = {tcp[i], -1};
        if (ioctl(kcm, SIOCKCMATTACH, &attach) < 0)
            die("attach");
    }
    for (int i = 0; i < workers; i++)
        pids[i] = start_worker(kcm, i);
    unsigned kills = kill_workers(kcm, pids, now() + atof(argv[1]));
    shared->phase = quiet;
    pause_for(300000);
    check_all_live(tcp);
    shared->phase = ended;
    for (int i = 0; i < workers; i++)
        bury(pids[i], i);
    while ((got = recv(kcm, &message, sizeof message, 0)) > 0)
        count(&message, (size_t)got);
    unsigned sent = total(shared->sent), received = that_came(shared->received, 0, 1);
    unsigned missing = that_came(shared->received, 0, 0), lost = 0, unanswered = that_came(shared->answered, 0, 0);
    unsigned doubled = sent - missing - received;
    for (int i = 0; i < connections; i++)
        for (unsigned n = 0; n < shared->sent[i]; n++)
            lost += !shared->received[i][n] && !shared->seized[i][n];
    unsigned doubled_answers = sent - unanswered - that_came(shared->answered, 0, 1);
    printf("%u kills, %u requests: %u lost, %u doubled; answers: %u lost, %u doubled; %d broken\n", kills, sent, lost,
           doubled, unanswered, doubled_answers, shared->broken);
    return lost > kills || unanswered > 2 * kills || doubled || doubled_answers || shared->broken;
}
