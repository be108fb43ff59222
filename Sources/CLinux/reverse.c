#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

int martlet_reverse(const char *address, char *text, size_t capacity) {
  struct addrinfo hints = {
      .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
  struct addrinfo *found = NULL;
  if (getaddrinfo(address, NULL, &hints, &found) != 0 || !found) return -EINVAL;
  int code = getnameinfo(
      found->ai_addr, found->ai_addrlen, text, (socklen_t)capacity, NULL, 0, NI_NAMEREQD);
  freeaddrinfo(found);
  return code == 0 ? (int)strlen(text) : -EADDRNOTAVAIL;
}
