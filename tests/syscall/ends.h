/* What facts.c and ends.c know of each other. */
#ifndef ENDS_H
#define ENDS_H

#include "facts.h"

/* The subject's. */
extern const char *name;

/* Ends the program, which cannot state its facts. */
void must(bool holds, const char *what);
/* As `fill`, with bytes of the pattern from an offset on, which goes on. */
long fill_from(int fd, long *offset);

#endif
