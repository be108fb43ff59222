"""A server that is killed before the n-th thing that it does to its files, by a library that is
loaded first."""

from pathlib import Path

import preload
from harness import paths
from harness.server import Server

END_SECONDS_MAX = 20

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of the first thread, to which a start belongs: each call goes into the file $STEPS, and before
   the one numbered $DIE_BEFORE, counted from 1, the process is killed. */
static void step(const char *name, const char *path) {
  static int log = -1, count = 0;
  if (syscall(SYS_gettid) != getpid()) return;
  if (log < 0) log = open(getenv("STEPS"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  char line[4400];
  int length = snprintf(line, sizeof line, "%s %s\n", name, path);
  syscall(SYS_write, log, line, length);
  if (++count == atoi(getenv("DIE_BEFORE"))) raise(SIGKILL);
}

/* Files and folders alone. */
static void step_of(const char *name, int file) {
  char link[64], path[4096];
  struct stat found;
  if (fstat(file, &found) || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length < 0 ? 0 : length] = 0;
  step(name, path);
}

#define OF_FILE(kind, name, declared, types, given)          \
  kind name declared {                                       \
    step_of(#name, file);                                    \
    return ((kind(*) types)dlsym(RTLD_NEXT, #name)) given;   \
  }

OF_FILE(ssize_t, write, (int file, const void *data, size_t size), (int, const void *, size_t),
        (file, data, size))
OF_FILE(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at),
        (int, const void *, size_t, off_t), (file, data, size, at))
OF_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off_t at),
        (int, const void *, size_t, off_t), (file, data, size, at))
OF_FILE(ssize_t, writev, (int file, const struct iovec *parts, int count),
        (int, const struct iovec *, int), (file, parts, count))
OF_FILE(int, ftruncate, (int file, off_t size), (int, off_t), (file, size))
OF_FILE(int, fdatasync, (int file), (int), (file))
OF_FILE(int, fsync, (int file), (int), (file))

int rename(const char *from, const char *to) {
  step("rename", to);
  return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}

int unlink(const char *path) {
  if (access(path, F_OK) == 0) step("unlink", path);
  return ((int (*)(const char *))dlsym(RTLD_NEXT, "unlink"))(path);
}
"""


def build(folder: Path) -> Path:
    """The library, made in `folder`."""
    return preload.build(folder, SOURCE)


class SteppedServer(Server):
    """Martlet, with its steps written down."""

    def __init__(self, library: Path):
        super().__init__(paths.MARTLET)
        self.library = library
        self.die_before = 0
        self.written = self.home / "steps"

    def arguments(self) -> list[str]:
        return ["env", f"LD_PRELOAD={self.library}", f"STEPS={self.written}",
                f"DIE_BEFORE={self.die_before}", *super().arguments()]

    def steps(self) -> list[str]:
        """Each as a call and what it is about, without the folder."""
        return self.written.read_text().replace(f"{self.data_dir}/", "").splitlines()

    def die(self, step: int) -> None:
        """Starts it, and it ends itself before that step."""
        self.die_before = step
        self.spawn()
        assert self.process.wait(END_SECONDS_MAX) == -9, self.log_tail()
