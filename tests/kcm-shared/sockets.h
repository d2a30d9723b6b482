/* What programs need that use KCM sockets and end at the first thing that is not as it should be. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <pthread.h>
#include <sys/types.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            fail(__FILE__, __LINE__, #condition); \
    } while (0)

void fail(const char *file, int line, const char *what) __attribute__((noreturn));

int kcm_socket(int type);
int clone_of(int kcm);
int attach(int kcm, int tcp); /* as ioctl */
int unattach(int kcm, int tcp);

/* Sends up to eight descriptors with a byte in a message of a Unix socket (SCM_RIGHTS): answers what sendmsg(2) does. */
ssize_t pass_many(int through, const int *fds, int count);
void pass(int through, int fd);
/* Receives as many, of which there is room for `count`: answers the message's flags. */
int passed_many(int through, int *fds, int count);
int passed(int through);

/* Starts a thread, and returns when it is asleep in the kernel. */
pthread_t asleep_in(void *(*run)(void *), void *argument);
/* Returns when a thread of this process, or a child with one thread, is asleep in the kernel, not for a lock. */
void until_asleep(pid_t thread);
/* For a thread: has children come and go until an int is not zero. */
void *fork_forever(void *until);

#endif
