/* What the cases share: a mux with four connections. A message is a length of four bytes, itself included, and text. */
#ifndef ADDRESSES_H
#define ADDRESSES_H

#include <errno.h>
#include <preloop/kcm.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

enum { CONNECTIONS = 4 };

extern int failed;

extern struct connection {
	int own, peer; /* the attached socket, and the other end */
	uint64_t cookie;
} connections[CONNECTIONS];

#define CHECK(what) \
	do { \
		if (!(what)) { \
			printf("%s:%d: %s (errno %d)\n", __func__, __LINE__, #what, errno); \
			failed = 1; \
		} \
	} while (0)

uint64_t cookie_of(int fd);
void connect_all(void);
int attach(int kcm, int i);
int unattach(int kcm, int i);
int clone_of(int kcm);
int set(int kcm, int value);
int is_set(int kcm);
size_t make(char *to, const char *text);
/* The other end of connection i sends a message. */
void come(int i, const char *text);
/* Whether the other end of connection i gets exactly this. */
int gets(int i, const char *text);
int gets_nothing(int i);
ssize_t send_on(int kcm, uint64_t cookie, const char *text, int flags);
/* Receives a message into a header with room for an address. */
ssize_t receive(int kcm, struct sockaddr_kcm *from, socklen_t *length, int flags);
int came_from(int kcm, int i, int flags);

/* The cases, each with a KCM socket to which all are attached. */
void option(int kcm);
void receiving(int kcm);
void receiving_parts(int kcm);
void receiving_many(int kcm);
void sending(int kcm);
void sending_parts(int kcm);
void sending_many(int kcm);
void wrong_addresses(int kcm);
void in_a_child(int kcm);
void after_the_connection(int kcm);
void half_closed(int kcm);
void full(int kcm);

#endif
