/* Loads a library so that it prefers its own dependencies, the C library among them, to what was preloaded, and has both
 * the library and itself talk to an echo server: DEEPBIND LIBRARY PORT ROUNDS. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int talk(int port, int rounds);

int main(int count, char **words) {
    if (count != 4)
        return 2;
    void *library = dlopen(words[1], RTLD_NOW | RTLD_DEEPBIND);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int (*theirs)(int, int) = (int (*)(int, int))dlsym(library, "talk");
    int port = atoi(words[2]), rounds = atoi(words[3]);
    return theirs(port, rounds) || talk(port, rounds);
}
