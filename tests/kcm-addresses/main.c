/* Messages with addresses (compat/include/preloop/kcm.h): each check prints a line when it fails. */
#define _GNU_SOURCE
#include "addresses.h"

#include <linux/kcm.h>
#include <unistd.h>

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
