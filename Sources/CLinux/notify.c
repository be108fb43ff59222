#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int martlet_send_datagram(const char *path, const void *bytes, size_t count, int waits) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(path);
  if (length >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
  int failed = connect(fd, (struct sockaddr *)&address, size) < 0;
  if (!failed && count > 0)
    failed = send(fd, bytes, count, MSG_NOSIGNAL | (waits ? 0 : MSG_DONTWAIT)) < 0;
  int result = failed ? -errno : 0;
  close(fd);
  return result;
}

int martlet_notify(const char *text) {
  const char *path = getenv("NOTIFY_SOCKET");
  if (!path || !*path) return 0;
  int code = martlet_send_datagram(path, text, strlen(text), 0);
  return code < 0 ? code : 1;
}
