/* Where messages came from. */
#define _GNU_SOURCE
#include "addresses.h"

#include <string.h>
#include <unistd.h>

void option(int kcm)
{
	struct sockaddr_kcm from;
	socklen_t length = sizeof(from);

	CHECK(is_set(kcm) == 0);
	come(0, "without");
	CHECK(receive(kcm, &from, &length, 0) == 11 && length == 0 && from.skcm_cookie == UINT64_MAX);
	/* Nobody looks at an address. */
	CHECK(sendto(kcm, "", 0, 0, (struct sockaddr *)"R", 1) == 0);
	CHECK(set(kcm, 5) == 0 && is_set(kcm) == 1);
	int other = clone_of(kcm);
	CHECK(is_set(other) == 0);
	close(other);
}

void receiving(int kcm)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		come(i, "hello");
		CHECK(came_from(kcm, i, MSG_PEEK));
		CHECK(came_from(kcm, i, 0));
	}
	char bytes[64];
	struct sockaddr_kcm from = { .skcm_cookie = 1 };
	socklen_t length = 4;
	come(1, "short");
	CHECK(recvfrom(kcm, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &length) == 9);
	CHECK(length == sizeof(from) && from.skcm_family == AF_KCM && from.skcm_cookie == 1);
	come(1, "none");
	CHECK(recvfrom(kcm, bytes, sizeof(bytes), 0, NULL, NULL) == 8);
	come(1, "none");
	CHECK(read(kcm, bytes, sizeof(bytes)) == 8);
	come(1, "nowhere");
	CHECK(recvfrom(kcm, bytes, sizeof(bytes), 0, (struct sockaddr *)16, &length) == -1 && errno == EFAULT);
	come(1, "no name");
	struct iovec part = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_namelen = 5, .msg_iov = &part, .msg_iovlen = 1 };
	CHECK(recvmsg(kcm, &message, 0) == 11 && message.msg_namelen == 0);
}

void receiving_parts(int kcm)
{
	char bytes[64];
	struct sockaddr_kcm from = { 0 };
	socklen_t length = sizeof(from);
	come(2, "in two parts");
	CHECK(recv(kcm, bytes, 7, 0) == 7);
	CHECK(recvfrom(kcm, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &length) == 9);
	CHECK(length == sizeof(from) && from.skcm_cookie == connections[2].cookie);
}

void receiving_many(int kcm)
{
	struct sockaddr_kcm from[2 * CONNECTIONS];
	struct mmsghdr messages[2 * CONNECTIONS];
	char bytes[64];
	struct iovec part = { bytes, sizeof(bytes) };
	int seen[CONNECTIONS] = { 0 };

	memset(messages, 0, sizeof(messages));
	for (int n = 0; n < 2 * CONNECTIONS; n++) {
		messages[n].msg_hdr = (struct msghdr){ .msg_name = &from[n], .msg_namelen = sizeof(from[n]),
			.msg_iov = &part, .msg_iovlen = 1 };
		come(n % CONNECTIONS, "many");
	}
	CHECK(recvmmsg(kcm, messages, 2 * CONNECTIONS, 0, NULL) == 2 * CONNECTIONS);
	for (int n = 0; n < 2 * CONNECTIONS; n++)
		for (int i = 0; i < CONNECTIONS; i++)
			seen[i] += from[n].skcm_cookie == connections[i].cookie;
	for (int i = 0; i < CONNECTIONS; i++)
		CHECK(seen[i] == 2);
}
