/* Connections that end, or are full, and a child that has them. */
#define _GNU_SOURCE
#include "addresses.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Another process that shares the mux answers where a message came from. */
void in_a_child(int kcm)
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
void after_the_connection(int kcm)
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
void half_closed(int kcm)
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
void full(int kcm)
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
