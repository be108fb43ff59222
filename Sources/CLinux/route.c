#define _GNU_SOURCE
#include "CLinux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What one dump looks for, and what it has found. */
struct search {
  int family;
  int interface;
  char *text;
  size_t capacity;
  int length;
};

static int print(struct search *search, const void *address) {
  if (!inet_ntop(search->family, address, search->text, (socklen_t)search->capacity))
    return 0;
  search->length = (int)strlen(search->text);
  return 1;
}

/* A default route: takes its preferred source, or else the interface. True when done. */
static int take_route(struct nlmsghdr *message, struct search *search) {
  struct rtmsg *route = NLMSG_DATA(message);
  if (message->nlmsg_type != RTM_NEWROUTE || route->rtm_dst_len != 0 ||
      route->rtm_table != RT_TABLE_MAIN || route->rtm_family != search->family)
    return 0;
  int left = (int)RTM_PAYLOAD(message);
  const void *source = NULL;
  for (struct rtattr *at = RTM_RTA(route); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
    if (at->rta_type == RTA_PREFSRC) source = RTA_DATA(at);
    if (at->rta_type == RTA_OIF && !search->interface)
      memcpy(&search->interface, RTA_DATA(at), sizeof search->interface);
  }
  return source && print(search, source);
}

static int take_address(struct nlmsghdr *message, struct search *search) {
  struct ifaddrmsg *address = NLMSG_DATA(message);
  if (message->nlmsg_type != RTM_NEWADDR || address->ifa_family != search->family ||
      (int)address->ifa_index != search->interface)
    return 0;
  int left = (int)IFA_PAYLOAD(message);
  for (struct rtattr *at = IFA_RTA(address); RTA_OK(at, left); at = RTA_NEXT(at, left))
    if (at->rta_type == IFA_ADDRESS) return print(search, RTA_DATA(at));
  return 0;
}

static int dump(int fd, int type, struct search *search,
                int (*take)(struct nlmsghdr *, struct search *)) {
  struct {
    struct nlmsghdr header;
    struct rtgenmsg body;
  } request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)),
                          .nlmsg_type = (unsigned short)type,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
               .body = {.rtgen_family = (unsigned char)search->family}};
  if (send(fd, &request, request.header.nlmsg_len, 0) < 0) return -errno;
  _Alignas(struct nlmsghdr) char buffer[32 << 10];
  for (int is_found = 0;;) {
    ssize_t count = recv(fd, buffer, sizeof buffer, 0);
    if (count <= 0) return count < 0 ? -errno : -EIO;
    int left = (int)count;
    struct nlmsghdr *at = (struct nlmsghdr *)buffer;
    for (; NLMSG_OK(at, left); at = NLMSG_NEXT(at, left)) {
      if (at->nlmsg_type == NLMSG_DONE) return is_found;
      if (at->nlmsg_type == NLMSG_ERROR) return -EIO;
      if (!is_found) is_found = take(at, search);
    }
  }
}

int martlet_default_host(char *text, size_t capacity) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  int families[] = {AF_INET, AF_INET6};
  int result = -ENOENT;
  for (int i = 0; i < 2 && result < 0; i++) {
    struct search search = {.family = families[i], .text = text, .capacity = capacity};
    int found = dump(fd, RTM_GETROUTE, &search, take_route);
    if (found == 0 && search.interface) found = dump(fd, RTM_GETADDR, &search, take_address);
    if (found == 1) result = search.length;
  }
  close(fd);
  return result;
}
