/*
 * Messages with addresses (compat/include/preloop/kcm.h): each check prints a line when it fails. Messages are a length of four
 * bytes, itself included, and text.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcm.h>
#include <netinet/in.h>
#include <poll.h>
#include <preloop/kcm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONNECTIONS = 4 };

static int failed;

static struct {
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

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return cookie;
}

static void connect_all(void)
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

static int attach(int kcm, int i)
{
	struct kcm_attach attach = { .fd = connections[i].own, .bpf_fd = -1 };
	return ioctl(kcm, SIOCKCMATTACH, &attach);
}

static int unattach(int kcm, int i)
{
	struct kcm_unattach unattach = { .fd = connections[i].own };
	return ioctl(kcm, SIOCKCMUNATTACH, &unattach);
}

static int clone_of(int kcm)
{
	struct kcm_clone clone = { 0 };
	ioctl(kcm, SIOCKCMCLONE, &clone);
	return clone.fd;
}

static int set(int kcm, int value)
{
	return setsockopt(kcm, SOL_KCM, KCM_ADDRESSES, &value, sizeof(value));
}

static int is_set(int kcm)
{
	int value = -1;
	socklen_t len = sizeof(value);
	return getsockopt(kcm, SOL_KCM, KCM_ADDRESSES, &value, &len) == 0 ? value : -1;
}

static size_t make(char *to, const char *text)
{
	uint32_t length = htonl(4 + strlen(text));
	memcpy(to, &length, 4);
	memcpy(to + 4, text, strlen(text));
	return 4 + strlen(text);
}

/* The other end of connection i sends a message. */
static void come(int i, const char *text)
{
	char bytes[64];
	if (write(connections[i].peer, bytes, make(bytes, text)) < 0)
		abort();
}

/* Whether the other end of connection i gets exactly this. */
static int gets(int i, const char *text)
{
	char wanted[64], bytes[64];
	size_t length = make(wanted, text);
	return recv(connections[i].peer, bytes, length, MSG_WAITALL) == (ssize_t)length && memcmp(bytes, wanted, length) == 0;
}

static int gets_nothing(int i)
{
	char byte;
	return recv(connections[i].peer, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

static ssize_t send_on(int kcm, uint64_t cookie, const char *text, int flags)
{
	struct sockaddr_kcm to = { .skcm_family = AF_KCM, .skcm_cookie = cookie };
	char bytes[64];
	return sendto(kcm, bytes, make(bytes, text), flags | MSG_EOR, (struct sockaddr *)&to, sizeof(to));
}

/* Receives a message into a header with room for an address. */
static ssize_t receive(int kcm, struct sockaddr_kcm *from, socklen_t *length, int flags)
{
	char bytes[64];
	struct iovec part = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_name = from, .msg_namelen = *length, .msg_iov = &part, .msg_iovlen = 1 };
	memset(from, 0xff, sizeof(*from));
	ssize_t got = recvmsg(kcm, &message, flags);
	*length = message.msg_namelen;
	return got;
}

static int came_from(int kcm, int i, int flags)
{
	struct sockaddr_kcm from;
	socklen_t length = sizeof(from);
	return receive(kcm, &from, &length, flags) > 4 && length == sizeof(from) && from.skcm_family == AF_KCM
		&& from.skcm_zero[0] == 0 && from.skcm_zero[2] == 0 && from.skcm_cookie == connections[i].cookie;
}

static void option(int kcm)
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

static void receiving(int kcm)
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

static void receiving_parts(int kcm)
{
	char bytes[64];
	struct sockaddr_kcm from = { 0 };
	socklen_t length = sizeof(from);
	come(2, "in two parts");
	CHECK(recv(kcm, bytes, 7, 0) == 7);
	CHECK(recvfrom(kcm, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &length) == 9);
	CHECK(length == sizeof(from) && from.skcm_cookie == connections[2].cookie);
}

static void receiving_many(int kcm)
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

static void sending(int kcm)
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

static void sending_parts(int kcm)
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

static void sending_many(int kcm)
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

static void wrong_addresses(int kcm)
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

/* Another process that shares the mux answers where a message came from. */
static void in_a_child(int kcm)
{
	come(1, "to a child");
	pid_t child = fork();
	if (child == 0) {
		struct sockaddr_kcm from;
		socklen_t length = sizeof(from);
		_exit(receive(kcm, &from, &length, 0) != 14 || send_on(kcm, from.skcm_cookie, "reply", 0) != 9);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(gets(1, "reply") && gets_nothing(0) && gets_nothing(2));
}

/* What is queued keeps its address when its connection is gone, and its socket does not take more. */
static void after_the_connection(int kcm)
{
	come(2, "last words");
	struct sockaddr_kcm from;
	socklen_t length = sizeof(from);
	CHECK(receive(kcm, &from, &length, MSG_PEEK) == 14);
	CHECK(unattach(kcm, 2) == 0);
	CHECK(send_on(kcm, connections[2].cookie, "late", 0) == -1 && errno == ENOTCONN);
	CHECK(came_from(kcm, 2, 0));
	CHECK(attach(kcm, 2) == 0);
	CHECK(send_on(kcm, connections[2].cookie, "again", 0) == 9 && gets(2, "again"));
	close(connections[1].peer);
	/* Whoever is told of the end first, this call finds out. */
	while (send_on(kcm, connections[1].cookie, "gone", 0) >= 0)
		usleep(1000);
	CHECK(errno == EPIPE);
}

/* After a FIN replies can be sent once its error was read. */
static void half_closed(int kcm)
{
	struct pollfd own = { .fd = connections[3].own };
	int error = 0;
	socklen_t length = sizeof(error);
	shutdown(connections[3].peer, SHUT_WR);
	CHECK(poll(&own, 1, -1) == 1 && own.revents & POLLERR);
	CHECK(send_on(kcm, connections[3].cookie, "too early", 0) == -1 && errno == EPIPE);
	CHECK(getsockopt(own.fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == EPIPE);
	CHECK(send_on(kcm, connections[3].cookie, "reply", 0) == 9 && gets(3, "reply"));
}

/* Sends on connection i, whose other end does not read, until the KCM socket is full. */
static void fill(int kcm, int i)
{
	static char bytes[32 << 10];
	struct sockaddr_kcm to = { .skcm_family = AF_KCM, .skcm_cookie = connections[i].cookie };
	while (sendto(kcm, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_EOR, (struct sockaddr *)&to, sizeof(to)) >= 0)
		;
	CHECK(errno == EAGAIN);
	CHECK(send_on(kcm, connections[2].cookie, "behind", MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

/* Returns once a process sleeps. */
static void wait_for_sleep(pid_t pid)
{
	char path[64], state = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	while (state != 'S') {
		FILE *stat = fopen(path, "r");
		if (fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
			abort();
		fclose(stat);
	}
}

/* What waits for a connection does not outlive it, and nothing waits behind that any more. */
static void full(int kcm)
{
	fill(kcm, 0);
	pid_t child = fork();
	if (child == 0)
		_exit(send_on(kcm, connections[2].cookie, "through", 0) != 11);
	wait_for_sleep(child);
	CHECK(unattach(kcm, 0) == 0);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(gets(2, "through"));
	CHECK(send_on(kcm, connections[0].cookie, "late", 0) == -1 && errno == ENOTCONN);

	fill(kcm, 3);
	close(connections[3].peer);
	CHECK(send_on(kcm, connections[2].cookie, "on", 0) == 6 && gets(2, "on") && gets_nothing(2));
	CHECK(send_on(kcm, connections[3].cookie, "late", 0) == -1 && errno == EPIPE);
}

static void run(int type)
{
	int kcm = socket(AF_KCM, type, KCMPROTO_CONNECTED);
	connect_all();
	for (int i = 0; i < CONNECTIONS; i++)
		CHECK(attach(kcm, i) == 0);
	option(kcm);
	receiving(kcm);
	receiving_many(kcm);
	sending(kcm);
	if (type == SOCK_DGRAM)
		sending_parts(kcm);
	else
		receiving_parts(kcm);
	sending_many(kcm);
	wrong_addresses(kcm);
	in_a_child(kcm);
	after_the_connection(kcm);
	half_closed(kcm);
	full(kcm);
	close(kcm);
	for (int i = 0; i < CONNECTIONS; i++) {
		close(connections[i].own);
		close(connections[i].peer);
	}
}

int main(void)
{
	run(SOCK_DGRAM);
	run(SOCK_SEQPACKET);
	return failed;
}
