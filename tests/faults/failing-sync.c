/*
 * A disk that fails to flush: loaded before the C library (LD_PRELOAD), fsync and fdatasync of files whose name ends in
 * state.db-wal fail with EIO for as long as the file named by AGENTMESH_TEST_EIO exists.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char WAL[] = "state.db-wal";

static int broken(int fd) {
  const char *trigger = getenv("AGENTMESH_TEST_EIO");
  char link[64];
  char path[4096];
  ssize_t length;

  if (trigger == NULL || access(trigger, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, sizeof path - 1);
  if (length < (ssize_t)(sizeof WAL - 1)) return 0;
  return memcmp(path + length - (sizeof WAL - 1), WAL, sizeof WAL - 1) == 0;
}

static int sync_unless_broken(const char *name, int fd) {
  int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);

  if (broken(fd)) {
    errno = EIO;
    return -1;
  }
  return next(fd);
}

int fsync(int fd) { return sync_unless_broken("fsync", fd); }

int fdatasync(int fd) { return sync_unless_broken("fdatasync", fd); }
