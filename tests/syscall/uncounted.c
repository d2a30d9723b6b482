/* Children that are made past fork: by commands (system, popen, wordexp), by _Fork and by clone. What they inherit they may
 * use for as long as they live, whatever happens to the connection at its other holders. */
#include "facts.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <wordexp.h>

/* A child acts once it has read from here. */
static int go[2];
static char room[64];

static void tell_child(void) { write(go[1], "x\n", 2); }

static int act(void *connection)
{
    int fd = *(int *)connection;
    read(go[0], room, 2);
    long got = recv(fd, room, sizeof room, 0);
    send(fd, room, got, 0);
    _exit(0);
}

/* The shell's way to do the same. */
static char *command(int fd, const char *behind)
{
    static char text[128];
    snprintf(text, sizeof text, "(read word <&%d; dd bs=64 count=1 status=none <&%d >&%d) %s", go[0], fd, fd, behind);
    return text;
}

/* ---- children */

static FILE *piped;

static void by_system(int fd) { system(command(fd, "&")); }
static void by_popen(int fd) { piped = popen(command(fd, ""), "w"); }

static void by_wordexp(int fd)
{
    char text[160];
    wordexp_t words;
    snprintf(text, sizeof text, "$(%s)", command(fd, ">/dev/null &"));
    if (wordexp(text, &words, 0) == 0)
        wordfree(&words);
}

static void by_bare_fork(int fd)
{
    if (_Fork() == 0)
        act(&fd);
}

static void by_clone(int fd)
{
    static _Alignas(64) char stack[1 << 16];
    clone(act, stack + sizeof stack, SIGCHLD, &fd);
}

static void by_system_call(int fd)
{
    if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0)
        act(&fd);
}

static void by_clone3(int fd)
{
    struct clone_args how = {.exit_signal = SIGCHLD};
    if (syscall(SYS_clone3, &how, sizeof how) == 0)
        act(&fd);
}

static int run_shell(void *connection)
{
    execl("/bin/sh", "sh", "-c", command(*(int *)connection, ""), NULL);
    _exit(1);
}

static int run_true(void *nothing)
{
    (void)nothing;
    execl("/bin/true", "true", NULL);
    _exit(1);
}

static int run_shell_with_copy(void *connection)
{
    int copy = dup2(*(int *)connection, 9);
    return run_shell(&copy);
}

static void in_shared_memory(int (*run)(void *), int fd)
{
    static _Alignas(64) char stack[1 << 18];
    clone(run, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &fd);
}

static void by_clone_and_exec(int fd) { in_shared_memory(run_shell, fd); }

static void by_clone_dup_and_exec(int fd)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    in_shared_memory(run_shell_with_copy, fd);
}

/* ---- what they do */

static void reap(void)
{
    if (piped)
        pclose(piped);
    piped = NULL;
    while (wait(NULL) > 0)
        ;
}

/* How far a connection has come when a child is made. The ends agree to move it with its second request and reply. */
enum stage { FRESH, TALKING, ASKING, ASKED };

static void come_to(int fd, enum stage stage)
{
    if (stage >= TALKING)
        exchange(fd, 1);
    if (stage == ASKING)
        send(fd, "half", 4, 0);
    if (stage == ASKED)
        peer_send(fd, "half"), recv(fd, room, 4, 0);
}

/* A child is made; then enough messages go by for the connection to move; then the child uses it. */
static void uses_later(const char *how, void (*make)(int), enum stage stage)
{
    int fd = fresh();
    come_to(fd, stage);
    make(fd);
    if (stage == ASKING)
        peer_wait_read(fd, 4);
    exchange(fd, 30);
    tell_child();
    peer_send(fd, "to the child");
    fact(how, "stage %d: %s", stage, peer_wait_read(fd, 64));
    reap();
    exchange(fd, 2);
    close(fd);
    fact(how, "closed: %s", peer_wait_read(fd, 8));
}

/* A socket is made, then the child, then the connection. */
static void connected_afterwards(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int fd = socket(AF_INET, SOCK_STREAM, 0), listening = socket(AF_INET, SOCK_STREAM, 0);
    by_system(fd);
    bind(listening, (struct sockaddr *)&here, size), listen(listening, 1);
    getsockname(listening, (struct sockaddr *)&here, &size);
    connect(fd, (struct sockaddr *)&here, size);
    int other = accept(listening, NULL, NULL);
    for (int turn = 0; turn < 30; turn++) {
        send(fd, "a", 1, 0), recv(other, room, 1, 0);
        send(other, "b", 1, 0), recv(fd, room, 1, 0);
    }
    tell_child();
    send(other, "to the child", 12, 0);
    fact("connected afterwards", "%s", text(recv(other, room, sizeof room, 0), room));
    reap();
    close(fd), close(other), close(listening);
}

/* What a child does not inherit, and what comes later, is no concern of its. */
static void not_inherited(void)
{
    int fd = fresh();
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    system("true");
    in_shared_memory(run_true, fd);
    reap();
    warm(fd);
    send(fd, "still", 5, 0);
    fact("not inherited", "%s", peer_wait_read(fd, 64));
    close(fd);
    fd = moved();
    send(fd, "later", 5, 0);
    fact("later", "%s", peer_wait_read(fd, 64));
    close(fd);
}

/* A child closes what it inherited, moved or not, and the numbers come back to it for other things. */
static void has_its_own(const char *how, int (*make)(void))
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int fd = moved(), pair[2];
    if (make() == 0) {
        close(fd);
        socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
        write(pair[1], "its own", 7);
        write(pair[0], "other", 5);
        fact(how, "the number again: %d, %s", pair[0] == fd, text(read(pair[0], room, sizeof room), room));
        int listening = socket(AF_INET, SOCK_STREAM, 0), one = socket(AF_INET, SOCK_STREAM, 0);
        bind(listening, (struct sockaddr *)&here, size), listen(listening, 1);
        getsockname(listening, (struct sockaddr *)&here, &size);
        connect(one, (struct sockaddr *)&here, size);
        int other = accept(listening, NULL, NULL), right = 0;
        for (int turn = 0; turn < 30; turn++) {
            send(one, "a", 1, 0), right += recv(other, room, 8, 0) == 1;
            send(other, "b", 1, 0), right += looked(one, SOON) != 0 && recv(one, room, 8, 0) == 1;
        }
        fact(how, "its own connection: %d", right);
        _exit(0);
    }
    reap();
    send(fd, "on", 2, 0);
    fact(how, "after it: %s", peer_wait_read(fd, 64));
    close(fd);
}

static int bare_fork(void) { return _Fork(); }
static int system_call(void) { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

/* ---- _Fork may be called in a signal handler, whatever its thread was doing */

static volatile int made;

static void makes_child(int number)
{
    (void)number;
    int kept = errno;
    if (_Fork() == 0)
        _exit(0);
    made++;
    errno = kept;
}

static void in_handler(void)
{
    struct itimerval often = {{0, 700}, {0, 100}}, never = {{0, 0}, {0, 0}};
    handle(SIGALRM, makes_child, SA_RESTART);
    made = 0;
    for (int turn = 0; turn < 20; turn++) {
        int fd = fresh();
        setitimer(ITIMER_REAL, &often, NULL);
        exchange(fd, 20);
        setitimer(ITIMER_REAL, &never, NULL);
        close(fd);
    }
    fact("in a handler", "%d", made > 0);
    reap();
}

static void *idle(void *nothing)
{
    pause();
    return nothing;
}

void subject(void)
{
    pipe(go);
    for (enum stage stage = FRESH; stage <= ASKED; stage++) {
        uses_later("system", by_system, stage);
        uses_later("_Fork", by_bare_fork, stage);
    }
    uses_later("popen", by_popen, TALKING);
    uses_later("wordexp", by_wordexp, TALKING);
    uses_later("clone", by_clone, TALKING);
    uses_later("clone and exec", by_clone_and_exec, TALKING);
    uses_later("clone, dup2 and exec", by_clone_dup_and_exec, TALKING);
    connected_afterwards();
    not_inherited();
    has_its_own("_Fork's child", bare_fork);
    in_handler();
    /* From here on a child has a copy of a process of several threads. */
    start(idle, NULL);
    for (enum stage stage = FRESH; stage <= ASKED; stage++)
        uses_later("SYS_clone", by_system_call, stage);
    uses_later("SYS_clone3", by_clone3, TALKING);
    uses_later("system of one of two threads", by_system, ASKED);
    has_its_own("SYS_clone's child", system_call);
}
