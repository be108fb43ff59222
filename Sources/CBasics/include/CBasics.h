#ifndef MARTLET_CBASICS_H
#define MARTLET_CBASICS_H

#include <stddef.h>
#include <stdint.h>

/// CRC-32 with the Castagnoli polynomial, continued from `crc` (0 to start), as Go's
/// hash/crc32.Update computes it. Uses the processor's instruction where there is one.
uint32_t martlet_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The same by table on any processor; what the instruction is tested against.
uint32_t martlet_crc32c_portable(uint32_t crc, const void *bytes, size_t count);

/// CRC-32 with the IEEE polynomial by table, continued from `crc` (0 to start).
uint32_t martlet_crc32_ieee(uint32_t crc, const void *bytes, size_t count);

/// memcmp, which Swift reaches only through the C library's module.
int martlet_compare(const void *a, const void *b, size_t count);

#endif
