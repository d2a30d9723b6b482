/* Messages of Unix sockets that carry connections (SCM_RIGHTS): how they are sent and received, or not. */
#include "passing.h"

static void never_received(void)
{
    int ends_of[2], fd = moved();
    pair(ends_of);
    fact("never received: sent", "%s", r(pass_one(ends_of[0], fd)));
    close(fd);
    fact("never received: before the end", "%s", peer_read(fd, 64));
    close(ends_of[0]), close(ends_of[1]);
    ends("never received", fd);
}

static void kept_and_not_received(void)
{
    int ends_of[2], fd = moved();
    pair(ends_of);
    pass_one(ends_of[0], fd);
    close(ends_of[0]), close(ends_of[1]);
    works("kept, and not received", fd, fd);
    close(fd);
    ends("kept, and not received", fd);
}

/* A message that was dropped holds nothing: the last close here is the last of all, with bytes unread. */
static void dropped_and_closed(void)
{
    int ends_of[2], fd = moved();
    pair(ends_of);
    pass_one(ends_of[0], fd), pass_one(ends_of[0], fd);
    peer_send(fd, "never read");
    close(ends_of[0]), close(ends_of[1]);
    close(fd);
    ends("dropped, then closed", fd);
}

static void no_room(void)
{
    int ends_of[2], fds[2] = {moved(), moved()}, got[2] = {-1, -1}, told = 0;
    pair(ends_of);
    pass(ends_of[0], fds, 2, 0);
    close(fds[0]), close(fds[1]);
    fact("no room: received", "%d", take(ends_of[1], got, 1, 0, &told));
    fact("no room: truncated", "%d", (told & MSG_CTRUNC) != 0);
    works("no room: the first", got[0], fds[0]);
    ends("no room: the second", fds[1]);
    close(got[0]), close(ends_of[0]), close(ends_of[1]);
}

static void no_control(void)
{
    int ends_of[2], fd = moved();
    char byte;
    pair(ends_of);
    pass_one(ends_of[0], fd);
    close(fd);
    fact("read with no room: read", "%s", r(read(ends_of[1], &byte, 1)));
    ends("read with no room", fd);
    close(ends_of[0]), close(ends_of[1]);
}

static void peeked(void)
{
    int ends_of[2], number = moved();
    pair(ends_of);
    pass_one(ends_of[0], number);
    close(number);
    int first = take_one(ends_of[1], MSG_PEEK), second = take_one(ends_of[1], MSG_PEEK);
    works("peeked", first, number);
    works("peeked again", second, number);
    close(first);
    int last = take_one(ends_of[1], 0);
    works("received", last, number);
    close(second);
    works("the rest closed", last, number);
    fact("peeked: nothing more", "%d", take_one(ends_of[1], MSG_DONTWAIT));
    close(last), close(ends_of[0]), close(ends_of[1]);
    ends("peeked", number);
}

static void peeks(int via)
{
    int fd = take_one(via, MSG_PEEK);
    send(fd, "peeked", 6, 0);
    close(fd);
}

static void peeked_elsewhere(void)
{
    pid_t pid;
    int ends_of[2], number = moved();
    pair(ends_of);
    pass_one(ends_of[0], number);
    close(number);
    if ((pid = fork()) == 0) {
        peeks(ends_of[1]);
        _exit(0);
    }
    ended("peeked elsewhere: ended", pid);
    fact("peeked elsewhere: the peer reads", "%s", peer_wait_read(number, 64));
    int fd = take_one(ends_of[1], 0);
    works("peeked elsewhere", fd, number);
    close(fd), close(ends_of[0]), close(ends_of[1]);
    ends("peeked elsewhere", number);
}

static const char *kind(int fd)
{
    int type = 0;
    socklen_t length = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &type, &length) == 0)
        return type == AF_INET || type == AF_INET6 ? "internet" : "another socket";
    return "no socket";
}

static void mixed(void)
{
    int ends_of[2], pipes[2], one = moved(), other = moved(), still = fresh(), got[MOST];
    pair(ends_of);
    pipe(pipes);
    int fds[] = {pipes[0], one, 2, other, one, still, ends_of[0]};
    fact("mixed: sent", "%s", r(pass(ends_of[0], fds, 7, 0)));
    close(one), close(other), close(still);
    int count = take(ends_of[1], got, MOST, MSG_CMSG_CLOEXEC, NULL);
    fact("mixed: received", "%d", count);
    for (int index = 0; index < count; index++)
        fact("mixed: kind", "%s %d", kind(got[index]), fcntl(got[index], F_GETFD));
    works("mixed: one", got[1], one);
    works("mixed: other", got[3], other);
    works("mixed: one again", got[4], one);
    works("mixed: not moved", got[5], still);
    while (count > 0)
        close(got[--count]);
    ends("mixed: one", one);
    ends("mixed: other", other);
    close(ends_of[0]), close(ends_of[1]), close(pipes[0]), close(pipes[1]);
}

static void batches(void)
{
    int ends_of[2], fds[3] = {moved(), moved(), moved()}, got[3];
    struct mmsghdr messages[3] = {0};
    char control[3][CMSG_SPACE(sizeof(int))] = {0}, bytes[3];
    struct iovec parts[3];
    pair(ends_of);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends_of);
    for (int index = 0; index < 3; index++) {
        parts[index] = (struct iovec){"x", 1};
        struct msghdr *message = &messages[index].msg_hdr;
        *message = (struct msghdr){.msg_iov = &parts[index], .msg_iovlen = 1, .msg_control = control[index], .msg_controllen = sizeof control[index]};
        struct cmsghdr *header = CMSG_FIRSTHDR(message);
        header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fds[index], sizeof(int));
    }
    fact("batch: sent", "%s", r(sendmmsg(ends_of[0], messages, 3, 0)));
    for (int index = 0; index < 3; index++) {
        close(fds[index]);
        parts[index].iov_base = &bytes[index];
    }
    fact("batch: received", "%s", r(recvmmsg(ends_of[1], messages, 3, 0, NULL)));
    for (int index = 0; index < 3; index++) {
        fact("batch: descriptors", "%d", descriptors(&messages[index].msg_hdr, &got[index]));
        works("batch", got[index], fds[index]);
        close(got[index]);
        ends("batch", fds[index]);
    }
    close(ends_of[0]), close(ends_of[1]);
}

static void not_sent(void)
{
    int ends_of[2], number = moved();
    static char much[1 << 20];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends_of);
    while (send(ends_of[0], much, sizeof much, MSG_DONTWAIT) > 0)
        ;
    fact("full: sent", "%s", r(pass(ends_of[0], &number, 1, MSG_DONTWAIT)));
    works("full", number, number);
    close(ends_of[1]);
    fact("nobody there: sent", "%s", r(pass_one(ends_of[0], number)));
    works("nobody there", number, number);
    close(number), close(ends_of[0]);
    ends("nobody there", number);
    number = moved();
    fact("no socket: sent", "%s", r(pass_one(2, number)));
    works("no socket", number, number);
    close(number);
    ends("no socket", number);
}

static struct {
    int via, fd, tid;
    long sent;
} waiting;

static void *passes(void *unused)
{
    waiting.tid = gettid();
    waiting.sent = pass_one(waiting.via, waiting.fd);
    return unused;
}

/* A thread that waits in sendmsg for room. */
static pthread_t waits_to_pass(int *ends_of)
{
    static char much[1 << 20];
    pair(ends_of);
    while (send(ends_of[0], much, sizeof much, MSG_DONTWAIT) > 0)
        ;
    waiting.via = ends_of[0], waiting.fd = moved(), waiting.tid = 0;
    pthread_t thread = start(passes, NULL);
    while (*(volatile int *)&waiting.tid == 0)
        nap(1);
    until_asleep(waiting.tid);
    return thread;
}

static void cancelled(void)
{
    int ends_of[2];
    pthread_t thread = waits_to_pass(ends_of);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    works("cancelled", waiting.fd, waiting.fd);
    close(waiting.fd);
    ends("cancelled", waiting.fd);
    close(ends_of[0]), close(ends_of[1]);
}

/* A child that is made meanwhile keeps nothing of it. */
static void forked_meanwhile(void)
{
    int ends_of[2];
    pthread_t thread = waits_to_pass(ends_of);
    pid_t pid = fork();
    if (pid == 0) {
        close(waiting.fd), close(ends_of[0]), close(ends_of[1]);
        pause();
        _exit(0);
    }
    close(ends_of[1]);
    pthread_join(thread, NULL);
    fact("forked meanwhile: sent", "%ld", waiting.sent);
    works("forked meanwhile", waiting.fd, waiting.fd);
    close(waiting.fd), close(ends_of[0]);
    ends("forked meanwhile", waiting.fd);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

void subject(void)
{
    never_received();
    kept_and_not_received();
    dropped_and_closed();
    no_room();
    no_control();
    peeked();
    peeked_elsewhere();
    mixed();
    batches();
    not_sent();
    cancelled();
    forked_meanwhile();
}
