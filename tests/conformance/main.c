/*
 * Prints facts about AF_KCM: conformance [GROUP[.CASE]...]
 *
 * The same binary runs on the kernel's own module and wherever something else stands in for it; whoever compares the
 * two transcripts sees what differs. Each case has a process of its own and a limited time, so that one which hangs,
 * in the kernel even, becomes a fact like any other.
 */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { case_seconds = 12 };

static const struct group *const groups[] = {
    &group_socket,  &group_options, &group_attach,   &group_parser, &group_cut,    &group_receive, &group_send,
    &group_queue,   &group_broken,  &group_transfer, &group_ready,  &group_lower,  &group_steer,   &group_process,
    &group_threads, &group_proc,    &group_bpf,      &group_posted, &group_fields,
};

char *program_path;
static const char *group_name, *case_name;

void print_fact(const char *name, const char *format, ...)
{
    char value[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    printf("%s.%s.%s: %s\n", group_name, case_name, name, value);
    fflush(stdout);
}

pid_t child(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

int child_ended(pid_t pid, int wait)
{
    int status;
    for (long end = milliseconds() + wait; milliseconds() < end; usleep(2000))
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return -1;
}

static void run_case(const struct test_case *one)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        signal(SIGPIPE, SIG_IGN);
        alarm(case_seconds);
        one->run();
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    pid_t ended = 0;
    for (long end = milliseconds() + (case_seconds + 3) * 1000; !ended && milliseconds() < end; usleep(1000))
        ended = waitpid(pid, &status, WNOHANG);
    if (!ended)
        fact("end", "hangs, and no signal ends it");
    else if (WIFSIGNALED(status))
        fact("end", "%s", WTERMSIG(status) == SIGALRM ? "hangs" : text("SIG%s", sigabbrev_np(WTERMSIG(status))));
    kill(-pid, SIGKILL);
}

static int wanted(int argc, char **argv)
{
    if (argc < 2)
        return 1;
    const char *full = text("%s.%s", group_name, case_name);
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], group_name) || !strcmp(argv[i], full))
            return 1;
    return 0;
}

/* Programs that cases execute: each says what it finds at a descriptor that it inherited. */
static int executed(char **argv)
{
    int fd = atoi(argv[3]);
    group_name = "executed";
    case_name = "program";
    if (!strcmp(argv[2], "exists"))
        printf("%d", option(fd, SOL_SOCKET, SO_TYPE));
    else if (!strcmp(argv[2], "talk")) {
        const char *got = receive(fd, 64, MSG_DONTWAIT);
        printf("%s then %s", got, result(send(fd, "exec", 4, MSG_EOR)));
    }
    return 0;
}

int main(int argc, char **argv)
{
    program_path = "/proc/self/exe";
    if (argc == 4 && !strcmp(argv[1], "--executed"))
        return executed(argv);
    for (size_t g = 0; g < LENGTH_OF(groups); g++) {
        group_name = groups[g]->name;
        for (const struct test_case *one = groups[g]->cases; one->name; one++) {
            case_name = one->name;
            if (wanted(argc, argv))
                run_case(one);
        }
    }
    return 0;
}
