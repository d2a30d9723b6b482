/* See addresses.h. */
#define _GNU_SOURCE
#include "addresses.h"

#include <arpa/inet.h>
#include <linux/kcm.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int failed;
struct connection connections[CONNECTIONS];

uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return cookie;
}

void connect_all(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	bind(listener, (struct sockaddr *)&address, len);
	listen(listener, CONNECTIONS);
	getsockname(listener, (struct sockaddr *)&address, &len);
	for (int i = 0; i < CONNECTIONS; i++) {
		connections[i].peer = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(connections[i].peer, (struct sockaddr *)&address, len) != 0)
			abort();
		connections[i].own = accept(listener, NULL, NULL);
		/* Soon full. */
		int small = 1;
		setsockopt(connections[i].own, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		connections[i].cookie = cookie_of(connections[i].own);
	}
	close(listener);
}

int attach(int kcm, int i)
{
	struct kcm_attach attach = { .fd = connections[i].own, .bpf_fd = -1 };
	return ioctl(kcm, SIOCKCMATTACH, &attach);
}

int unattach(int kcm, int i)
{
	struct kcm_unattach unattach = { .fd = connections[i].own };
	return ioctl(kcm, SIOCKCMUNATTACH, &unattach);
}

int clone_of(int kcm)
{
	struct kcm_clone clone = { 0 };
	ioctl(kcm, SIOCKCMCLONE, &clone);
	return clone.fd;
}

int set(int kcm, int value)
{
	return setsockopt(kcm, SOL_KCM, KCM_ADDRESSES, &value, sizeof(value));
}

int is_set(int kcm)
{
	int value = -1;
	socklen_t len = sizeof(value);
	return getsockopt(kcm, SOL_KCM, KCM_ADDRESSES, &value, &len) == 0 ? value : -1;
}

size_t make(char *to, const char *text)
{
	uint32_t length = htonl(4 + strlen(text));
	memcpy(to, &length, 4);
	memcpy(to + 4, text, strlen(text));
	return 4 + strlen(text);
}

void come(int i, const char *text)
{
	char bytes[64];
	if (write(connections[i].peer, bytes, make(bytes, text)) < 0)
		abort();
}

int gets(int i, const char *text)
{
	char wanted[64], bytes[64];
	size_t length = make(wanted, text);
	return recv(connections[i].peer, bytes, length, MSG_WAITALL) == (ssize_t)length && memcmp(bytes, wanted, length) == 0;
}

int gets_nothing(int i)
{
	char byte;
	return recv(connections[i].peer, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

ssize_t send_on(int kcm, uint64_t cookie, const char *text, int flags)
{
	struct sockaddr_kcm to = { .skcm_family = AF_KCM, .skcm_cookie = cookie };
	char bytes[64];
	return sendto(kcm, bytes, make(bytes, text), flags | MSG_EOR, (struct sockaddr *)&to, sizeof(to));
}

ssize_t receive(int kcm, struct sockaddr_kcm *from, socklen_t *length, int flags)
{
	char bytes[64];
	struct iovec part = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_name = from, .msg_namelen = *length, .msg_iov = &part, .msg_iovlen = 1 };
	memset(from, 0xff, sizeof(*from));
	ssize_t got = recvmsg(kcm, &message, flags);
	*length = message.msg_namelen;
	return got;
}

int came_from(int kcm, int i, int flags)
{
	struct sockaddr_kcm from;
	socklen_t length = sizeof(from);
	return receive(kcm, &from, &length, flags) > 4 && length == sizeof(from) && from.skcm_family == AF_KCM
		&& from.skcm_zero[0] == 0 && from.skcm_zero[2] == 0 && from.skcm_cookie == connections[i].cookie;
}
