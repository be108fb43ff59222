#ifndef MARTLET_CLINUX_H
#define MARTLET_CLINUX_H

#include <stddef.h>
#include <stdint.h>

/* Calls that only GNU's headers declare, or that Swift cannot name. Each returns what the
   system call returns, or minus the error number. */

int martlet_epoll_create(void);
/* op: 1 add, 2 remove, 3 change; events as epoll's. */
int martlet_epoll_control(int epoll, int op, int fd, uint32_t events, uint64_t token);
/* Fills tokens and events; at most `max`, which is at most 256. */
int martlet_epoll_wait(int epoll, uint64_t *tokens, uint32_t *events, int max, int milliseconds);

int martlet_eventfd(void);
int martlet_eventfd_signal(int fd);
int martlet_eventfd_clear(int fd);

/* A descriptor that becomes readable at SIGTERM or SIGINT, which are blocked for all threads
   started later; SIGPIPE is ignored. */
int martlet_stop_signals(void);
/* The number of the signal that arrived. */
int martlet_read_signal(int fd);

/* Resolves `host` (address or localhost) and binds; backlog as the system's. */
int martlet_listen_tcp(const char *host, uint16_t port, int reuse_port);
int martlet_listen_unix(const char *path);
int martlet_accept(int fd);
/* Begins to connect to a numeric address; -EINVAL when `host` is a name. */
int martlet_connect_tcp(const char *host, uint16_t port);
int martlet_connect_unix(const char *path);
/* Writes the numeric addresses of `host`, each with a zero behind; how many. Waits for DNS. */
int martlet_resolve(const char *host, char *text, size_t capacity);
/* The error that a connection has come to, which is then forgotten: 0 when there is none. */
int martlet_take_error(int fd);
int martlet_bound_port(int fd);
/* Non-blocking; writes "host:port" of the other side. */
int martlet_peer_name(int fd, char *text, size_t capacity);
int martlet_set_nodelay(int fd);

/* Starts to write what is dirty of the file, after waiting for what was started before. */
int martlet_write_back(int fd);

void martlet_name_thread(const char *name);

/* Gives what malloc keeps free back to the system; its arenas are locked in turn meanwhile. */
void martlet_trim_memory(void);

/* What main was called with; `index` is below the count. */
int martlet_argument_count(void);
const char *martlet_argument(int index);

/* The name of a numeric address; its length, or minus an error number. Waits for DNS. */
int martlet_reverse(const char *address, char *text, size_t capacity);

/* The address that the main table's default route prefers, or the first one of its interface;
   its length, or minus an error number. */
int martlet_default_host(char *text, size_t capacity);

/* Sends a datagram to the socket at `path`; without bytes only asks whether somebody is there. */
int martlet_send_datagram(const char *path, const void *bytes, size_t count, int waits);

/* Sends `text` to $NOTIFY_SOCKET; 1 when sent, 0 when there is none. */
int martlet_notify(const char *text);

#endif
