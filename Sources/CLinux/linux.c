#define _GNU_SOURCE
#include "CLinux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int result(int value) { return value < 0 ? -errno : value; }

int martlet_epoll_create(void) { return result(epoll_create1(EPOLL_CLOEXEC)); }

int martlet_epoll_control(int epoll, int op, int fd, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events, .data = {.u64 = token}};
  return result(epoll_ctl(epoll, op, fd, &event));
}

int martlet_epoll_wait(int epoll, uint64_t *tokens, uint32_t *events, int max, int milliseconds) {
  struct epoll_event found[256];
  if (max > 256) max = 256;
  int count = epoll_wait(epoll, found, max, milliseconds);
  if (count < 0) return errno == EINTR ? 0 : -errno;
  for (int i = 0; i < count; i++) {
    tokens[i] = found[i].data.u64;
    events[i] = found[i].events;
  }
  return count;
}

int martlet_eventfd(void) { return result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

int martlet_eventfd_signal(int fd) {
  uint64_t one = 1;
  return result((int)write(fd, &one, sizeof one));
}

int martlet_eventfd_clear(int fd) {
  uint64_t count;
  return result((int)read(fd, &count, sizeof count));
}

int martlet_stop_signals(void) {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  int failed = pthread_sigmask(SIG_BLOCK, &set, NULL);
  if (failed) return -failed;
  return result(signalfd(-1, &set, SFD_CLOEXEC));
}

int martlet_read_signal(int fd) {
  struct signalfd_siginfo info;
  ssize_t count = read(fd, &info, sizeof info);
  return count == sizeof info ? (int)info.ssi_signo : -errno;
}

static int listen_on(int family, const struct sockaddr *address, socklen_t size, int reuse_port) {
  int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int one = 1;
  if (family != AF_UNIX) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (reuse_port) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  }
  if (bind(fd, address, size) < 0 || listen(fd, SOMAXCONN) < 0) {
    int code = errno;
    close(fd);
    return -code;
  }
  return fd;
}

int martlet_listen_tcp(const char *host, uint16_t port, int reuse_port) {
  char service[8];
  snprintf(service, sizeof service, "%u", port);
  struct addrinfo hints = {
      .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
  struct addrinfo *found = NULL;
  int code = getaddrinfo(*host ? host : NULL, service, &hints, &found);
  if (code != 0) return code == EAI_SYSTEM ? -errno : -EADDRNOTAVAIL;
  /* IPv4 first, as etcd's listener resolves localhost; an empty host takes both by IPv6. */
  int fd = -EADDRNOTAVAIL;
  int first = *host ? AF_INET : AF_INET6;
  for (int pass = 0; pass < 2 && fd < 0; pass++)
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
      if ((at->ai_family == first) == (pass == 0))
        fd = listen_on(at->ai_family, at->ai_addr, at->ai_addrlen, reuse_port);
  freeaddrinfo(found);
  return fd;
}

static int unix_address(const char *path, struct sockaddr_un *address) {
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
  strcpy(address->sun_path, path);
  return 0;
}

int martlet_listen_unix(const char *path) {
  struct sockaddr_un address;
  int code = unix_address(path, &address);
  if (code < 0) return code;
  unlink(path);
  return listen_on(AF_UNIX, (struct sockaddr *)&address, sizeof address, 0);
}

/* A host that vanished is noticed after a minute; etcd: transport.NewKeepAliveListener. */
static void keep_alive(int fd) {
  int on = 1, idle = 30, interval = 10, count = 3;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

int martlet_accept(int fd) {
  int client = result(accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (client >= 0) keep_alive(client);
  return client;
}

int martlet_connect_tcp(const char *host, uint16_t port) {
  char service[8];
  snprintf(service, sizeof service, "%u", port);
  struct addrinfo hints = {
      .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
  struct addrinfo *found = NULL;
  if (getaddrinfo(host, service, &hints, &found) != 0 || !found) return -EINVAL;
  int fd = result(socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd >= 0) {
    martlet_set_nodelay(fd);
    if (connect(fd, found->ai_addr, found->ai_addrlen) < 0 && errno != EINPROGRESS) {
      int code = errno;
      close(fd);
      fd = -code;
    }
  }
  freeaddrinfo(found);
  return fd;
}

int martlet_connect_unix(const char *path) {
  struct sockaddr_un address;
  int code = unix_address(path, &address);
  if (code < 0) return code;
  int fd = result(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    code = errno;
    close(fd);
    fd = -code;
  }
  return fd;
}

int martlet_resolve(const char *host, char *text, size_t capacity) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  struct addrinfo *found = NULL;
  int code = getaddrinfo(host, NULL, &hints, &found);
  if (code != 0) return code == EAI_SYSTEM ? -errno : -EADDRNOTAVAIL;
  int count = 0;
  size_t used = 0;
  /* IPv4 first, as Go dials. */
  for (int pass = 0; pass < 2; pass++)
    for (struct addrinfo *at = found; at; at = at->ai_next) {
      if ((at->ai_family == AF_INET) != (pass == 0)) continue;
      char name[INET6_ADDRSTRLEN];
      if (getnameinfo(at->ai_addr, at->ai_addrlen, name, sizeof name, NULL, 0, NI_NUMERICHOST))
        continue;
      size_t size = strlen(name) + 1;
      if (used + size > capacity) break;
      memcpy(text + used, name, size);
      used += size;
      count++;
    }
  freeaddrinfo(found);
  return count;
}

int martlet_take_error(int fd) {
  int code = 0;
  socklen_t size = sizeof code;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0 ? errno : code;
}

int martlet_bound_port(int fd) {
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  if (getsockname(fd, (struct sockaddr *)&address, &size) < 0) return -errno;
  if (address.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&address)->sin_port);
  if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
  return 0;
}

int martlet_peer_name(int fd, char *text, size_t capacity) {
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  char host[INET6_ADDRSTRLEN] = "";
  int port = 0;
  if (getpeername(fd, (struct sockaddr *)&address, &size) < 0) return -errno;
  if (address.ss_family == AF_UNIX) return snprintf(text, capacity, "@");
  if (address.ss_family == AF_INET) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
    port = ntohs(v4->sin_port);
  } else if (address.ss_family == AF_INET6) {
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    /* One of IPv4 that has come by a socket for both is told, and checked, as IPv4's. */
    const uint8_t *bytes = v6->sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
      inet_ntop(AF_INET, bytes + 12, host, sizeof host);
    else
      inet_ntop(AF_INET6, bytes, host, sizeof host);
    port = ntohs(v6->sin6_port);
  }
  return snprintf(text, capacity, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
}

int martlet_set_nodelay(int fd) {
  int one = 1;
  return result(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
}

void martlet_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

void martlet_trim_memory(void) { malloc_trim(0); }

int martlet_write_back(int fd) {
  int flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE;
  return sync_file_range(fd, 0, 0, flags) == 0 ? 0 : -errno;
}
