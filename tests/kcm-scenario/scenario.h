/*
 * What happens around KCM sockets: signals, cancellation, closing under a call, limits, hostile peers.
 *
 *     scenario CASE
 *
 * prints facts, `name: value`. `expected.txt` has what they are in the kernel: from docs/KCM.md, and from what any socket
 * does.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <linux/kcm.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifndef SOL_KCM
#define SOL_KCM 281
#endif

void fact(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A call's result, or the name of its error. */
const char *result(long value);

struct scene {
    int kcm, near, far; /* a KCM socket, its TCP socket, and the other end of that */
};
void connect_pair(int *near, int *far);
int attach(int kcm, int near, int program);
/* Of this type, attached to one connection. */
struct scene scene(int type);
int clone_of(int kcm);
/* Sends a message of that many bytes, the first four of which say how many follow. */
void far_sends(int far, size_t size);
/* Bytes of the next message, or the error, without waiting longer than two seconds. */
const char *next_message(int kcm);
/* Waits until a thread of this process sleeps in one of the calls that wait for a socket. */
void wait_until_asleep(pid_t thread);
void wait_ms(int milliseconds);

/* A thread that is in one call, and what came of it. */
struct caller {
    int kcm, sends;
    pid_t thread;
    long result;
    int error;
    unsigned long id;
};
void start(struct caller *caller);
/* Waits for its end: what the call answered, "cancelled", or "hangs". */
const char *ended(struct caller *caller);

struct scenario {
    const char *name;
    void (*run)(void);
};
extern const struct scenario signal_scenarios[], end_scenarios[], limit_scenarios[], peer_scenarios[];
#endif
