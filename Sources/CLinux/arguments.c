#include "CLinux.h"

static int count;
static char **words;

/* glibc hands main's arguments to constructors too. */
__attribute__((constructor)) static void keep(int argc, char **argv) {
  count = argc;
  words = argv;
}

int martlet_argument_count(void) { return count; }

const char *martlet_argument(int index) { return words[index]; }
