/* Facts about bpf(2), for programs of type socket filter and for maps. Each file states those of one group. They hold no
 * numbers that differ between runs, and nothing here knows of the library. */
#ifndef FACTS_H
#define FACTS_H

#define _GNU_SOURCE
#include "../conformance/conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void programs(void);
void logs(void);
void maps(void);
void elements(void);
void information(void);
void descriptors(void);
/* What a program finds that exec gave the descriptors of a map and a program to. */
void executed(int map, int program);

#define ADDRESS(of) ((uint64_t)(uintptr_t)(of))

/* A page that ends where nothing is. */
char *last_page(void);
/* A map, with flags. */
int map_of(int type, int key_size, int value_size, int entries, unsigned flags);
/* An element command, and how it went. */
const char *element(int command, int map, const void *key, const void *value, uint64_t flags);
/* A program that looks a key up in a map and returns what it finds; loaded, or -1. */
int looks_up(int map);
/* What the descriptor is said to be, without what is not steady: "type 1 name x", or the error. */
const char *program_said(int fd);
const char *map_said(int fd);

#endif
