/* A client of an echo server, in whatever way it is linked: TALK PORT ROUNDS. Built with -DPLUGIN it is a library whose
 * function talk does the same, for start.c to load. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sends lines to the server and compares what comes back; 0 when all was right. */
int talk(int port, int rounds) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("connect");
        return 1;
    }
    for (int turn = 0; turn < rounds; turn++) {
        char message[64], answer[64];
        memset(message, 'a' + turn % 26, sizeof message);
        snprintf(message, sizeof message, "%d", turn);
        if (send(fd, message, sizeof message, 0) != sizeof message ||
            recv(fd, answer, sizeof answer, MSG_WAITALL) != sizeof answer ||
            memcmp(message, answer, sizeof message) != 0) {
            fprintf(stderr, "turn %d went wrong\n", turn);
            return 1;
        }
    }
    close(fd);
    printf("verified %d\n", rounds);
    return 0;
}

#ifndef PLUGIN
int main(int count, char **words) {
    return count == 3 ? talk(atoi(words[1]), atoi(words[2])) : 2;
}
#endif
