#include "CBasics.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#endif

static uint32_t castagnoli[8][256];
static uint32_t ieee[256];
static int has_instruction;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t shift_byte(uint32_t crc, uint32_t polynomial) {
  for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ polynomial : crc >> 1;
  return crc;
}

static void prepare(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    castagnoli[0][byte] = shift_byte(byte, 0x82f63b78u);
    ieee[byte] = shift_byte(byte, 0xedb88320u);
  }
  for (uint32_t byte = 0; byte < 256; byte++)
    for (int lane = 1; lane < 8; lane++)
      castagnoli[lane][byte] = (castagnoli[lane - 1][byte] >> 8) ^
                               castagnoli[0][castagnoli[lane - 1][byte] & 0xff];
#if defined(__x86_64__)
  has_instruction = __builtin_cpu_supports("sse4.2");
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
  has_instruction = 1;
#endif
}

uint32_t martlet_crc32c_portable(uint32_t crc, const void *bytes, size_t count) {
  pthread_once(&once, prepare);
  const uint8_t *at = bytes;
  crc = ~crc;
  while (count >= 8) {
    uint64_t word;
    memcpy(&word, at, 8);
    word ^= crc;
    crc = castagnoli[7][word & 0xff] ^ castagnoli[6][word >> 8 & 0xff] ^
          castagnoli[5][word >> 16 & 0xff] ^ castagnoli[4][word >> 24 & 0xff] ^
          castagnoli[3][word >> 32 & 0xff] ^ castagnoli[2][word >> 40 & 0xff] ^
          castagnoli[1][word >> 48 & 0xff] ^ castagnoli[0][word >> 56];
    at += 8;
    count -= 8;
  }
  while (count--) crc = (crc >> 8) ^ castagnoli[0][(crc ^ *at++) & 0xff];
  return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2")))
static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t count) {
  uint64_t sum = (uint32_t)~crc;
  for (; count >= 8; at += 8, count -= 8) {
    uint64_t word;
    memcpy(&word, at, 8);
    sum = _mm_crc32_u64(sum, word);
  }
  for (; count; at++, count--) sum = _mm_crc32_u8((uint32_t)sum, *at);
  return ~(uint32_t)sum;
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t count) {
  uint32_t sum = ~crc;
  for (; count >= 8; at += 8, count -= 8) {
    uint64_t word;
    memcpy(&word, at, 8);
    sum = __crc32cd(sum, word);
  }
  for (; count; at++, count--) sum = __crc32cb(sum, *at);
  return ~sum;
}
#else
#define by_instruction martlet_crc32c_portable
#endif

uint32_t martlet_crc32c(uint32_t crc, const void *bytes, size_t count) {
  pthread_once(&once, prepare);
  if (has_instruction) return by_instruction(crc, bytes, count);
  return martlet_crc32c_portable(crc, bytes, count);
}

uint32_t martlet_crc32_ieee(uint32_t crc, const void *bytes, size_t count) {
  pthread_once(&once, prepare);
  const uint8_t *at = bytes;
  crc = ~crc;
  while (count--) crc = (crc >> 8) ^ ieee[(crc ^ *at++) & 0xff];
  return ~crc;
}
