"""Makes a process' disk slow or its clock wrong from outside, by a library that is loaded first."""

import shutil
import subprocess
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Syncs take $SLOW_MS while the file $SLOW_WHILE is there. */
int fdatasync(int fd) {
  const char *path = getenv("SLOW_WHILE");
  if (path && access(path, F_OK) == 0) usleep(1000 * (unsigned)atoi(getenv("SLOW_MS")));
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  return real(fd);
}

/* The clock on the wall is $AHEAD_SECONDS ahead. */
int clock_gettime(clockid_t clock, struct timespec *time) {
  int (*real)(clockid_t, struct timespec *) =
      (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(clock, time);
  const char *ahead = getenv("AHEAD_SECONDS");
  if (code == 0 && clock == CLOCK_REALTIME && ahead) time->tv_sec += atoi(ahead);
  return code;
}
"""


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("clang")


def build(folder: Path, text: str = SOURCE) -> Path:
    """The library of that source, made in `folder`."""
    source, library = folder / "preload.c", folder / "preload.so"
    source.write_text(text)
    subprocess.run([compiler(), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True,
                   capture_output=True, timeout=60)
    return library


def prefix(library: Path, **variables: str) -> list[str]:
    """What a command begins with to run with the library."""
    return ["env", f"LD_PRELOAD={library}", *(f"{key}={value}" for key, value in variables.items())]
