/* Where messages are to go. */
#define _GNU_SOURCE
#include "addresses.h"

#include <string.h>

void sending(int kcm)
{
	for (int n = 0; n < 2; n++)
		for (int i = CONNECTIONS - 1; i >= 0; i--) {
			CHECK(send_on(kcm, connections[i].cookie, "there", 0) == 9);
			CHECK(gets(i, "there"));
		}
	for (int i = 0; i < CONNECTIONS; i++)
		CHECK(gets_nothing(i));
	/* To any, in turn. */
	for (int i = 0; i < CONNECTIONS; i++)
		CHECK(send_on(kcm, 0, "any", 0) == 7);
	for (int i = 0; i < CONNECTIONS; i++)
		CHECK(gets(i, "any"));
}

void sending_parts(int kcm)
{
	struct sockaddr_kcm to = { .skcm_family = AF_KCM, .skcm_cookie = connections[2].cookie };
	struct sockaddr_kcm other = { .skcm_family = AF_KCM, .skcm_cookie = connections[1].cookie };
	char bytes[64];
	size_t length = make(bytes, "in two parts");
	CHECK(sendto(kcm, bytes, 5, MSG_MORE, (struct sockaddr *)&to, sizeof(to)) == 5);
	CHECK(sendto(kcm, bytes, 5, MSG_MORE, (struct sockaddr *)&other, sizeof(to)) == -1 && errno == EINVAL);
	CHECK(send(kcm, bytes + 5, length - 5, MSG_EOR) == (ssize_t)length - 5);
	CHECK(gets(2, "in two parts"));
}

void sending_many(int kcm)
{
	struct sockaddr_kcm to[CONNECTIONS];
	struct mmsghdr messages[CONNECTIONS];
	char bytes[64];
	struct iovec part = { bytes, make(bytes, "many") };
	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < CONNECTIONS; i++) {
		to[i] = (struct sockaddr_kcm){ .skcm_family = AF_KCM, .skcm_cookie = connections[CONNECTIONS - 1 - i].cookie };
		messages[i].msg_hdr = (struct msghdr){ .msg_name = &to[i], .msg_namelen = sizeof(to[i]), .msg_iov = &part,
			.msg_iovlen = 1 };
	}
	CHECK(sendmmsg(kcm, messages, CONNECTIONS, MSG_EOR) == CONNECTIONS);
	for (int i = 0; i < CONNECTIONS; i++)
		CHECK(gets(i, "many") && gets_nothing(i));
}

void wrong_addresses(int kcm)
{
	struct sockaddr_kcm to = { .skcm_family = AF_INET, .skcm_cookie = connections[0].cookie };
	CHECK(sendto(kcm, "abcd", 4, 0, (struct sockaddr *)&to, sizeof(to)) == -1 && errno == EINVAL);
	to.skcm_family = AF_KCM;
	struct iovec part = { "abcd", 4 };
	struct msghdr message = { .msg_name = (void *)16, .msg_namelen = sizeof(to), .msg_iov = &part, .msg_iovlen = 1 };
	CHECK(sendmsg(kcm, &message, 0) == -1 && errno == EFAULT);
	CHECK(sendto(kcm, "abcd", 4, 0, (struct sockaddr *)&to, sizeof(to) - 1) == -1 && errno == EINVAL);
	CHECK(send_on(kcm, cookie_of(connections[0].peer), "astray", 0) == -1 && errno == ENOTCONN);
	for (int i = 0; i < CONNECTIONS; i++)
		CHECK(gets_nothing(i));
}
