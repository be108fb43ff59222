#include <crypt.h>
#include <stdlib.h>
#include <string.h>

/// crypt(3) with working memory of its own; 0 when the phrase was hashed into `hash`.
static inline int martlet_crypt(const char *phrase, const char *setting, char *hash, size_t size) {
  void *memory = NULL;
  int count = 0;
  const char *found = crypt_ra(phrase, setting, &memory, &count);
  int code = found != NULL && found[0] != '*' && strlen(found) < size ? 0 : -1;
  if (code == 0) memcpy(hash, found, strlen(found) + 1);
  if (memory != NULL) explicit_bzero(memory, (size_t)count);
  free(memory);
  return code;
}
