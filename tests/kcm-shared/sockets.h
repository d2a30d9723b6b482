/* What programs need that use KCM sockets and end at the first thing that is not as it should be. */
#ifndef SOCKETS_H
#define SOCKETS_H

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

#endif
