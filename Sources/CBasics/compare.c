#include "CBasics.h"

#include <string.h>

int martlet_compare(const void *a, const void *b, size_t count) { return memcmp(a, b, count); }
