/*
 * What KCM sockets of Preloop can do beyond those of the kernel: tell which TCP connection a message came from, and send
 * one on a connection of choice. docs/KCM.md says more.
 */
#ifndef PRELOOP_KCM_H
#define PRELOOP_KCM_H

#include <stdint.h>
#include <sys/socket.h>

#ifndef AF_KCM
#define AF_KCM 41
#endif
#ifndef SOL_KCM
#define SOL_KCM 281
#endif

/* Option of level SOL_KCM, an int: whether messages of this socket have addresses. The kernel answers ENOPROTOOPT. */
#define KCM_ADDRESSES 0x504b

/* The address of a message, in msg_name: a TCP connection. */
struct sockaddr_kcm {
	sa_family_t skcm_family; /* AF_KCM */
	uint16_t skcm_zero[3];
	uint64_t skcm_cookie; /* SO_COOKIE of the TCP socket; to send on any: 0 */
};

#endif
