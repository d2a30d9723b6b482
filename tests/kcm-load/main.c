/* See load.h. */
#include "load.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    if (count == 5 && strcmp(words[2], "make") == 0) {
        make_board(words[1], strtoull(words[3], NULL, 10), atoi(words[4]));
        return 0;
    }
    if (count < 4)
        return 2;
    map_board(words[1]);
    if (strcmp(words[2], "peers") == 0)
        return run_peers(atoi(words[3]));
    return count == 5 ? run_worker(atoi(words[3]), strtoull(words[4], NULL, 10)) : 2;
}
